# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What tests of tools/demo.py run: tiny models, their configs and a video."""
import importlib
import json
from pathlib import Path

import av
import numpy as np
import tiny_evad
import torch
from tiny_run import write_config

RECOGNIZER = '''
_base_ = {base!r}
model = dict(backbone=dict(
    type='ReducedMViT', rel_pos_embed=False, reducers=[
        dict(type='TemporalSelection', before=0, keep=0.5, strategy='uniform')]))
test_dataloader = dict(dataset=dict(pipeline=[
    dict(type='PyAVInit'),
    dict(type='SampleFrames', clip_len=8, frame_interval=2, num_clips={clips},
         test_mode=True),
    dict(type='PyAVDecode'),
    dict(type='Resize', scale=(-1, 32)),
    dict(type='CenterCrop', crop_size=32),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs')]))
'''
MERGES = '''
_base_ = {base!r}
model = dict(
    backbone=dict(
        _delete_=True, type='ReducedTimeSformer', num_frames=8, img_size=32,
        patch_size=8, embed_dims=12, num_heads=3, num_transformer_layers=2,
        reducers=[dict(type='TokenMerging', before=1)]),
    cls_head=dict(_delete_=True, type='TimeSformerHead', num_classes=3, in_channels=12))
test_dataloader = dict(dataset=dict(pipeline=[
    dict(type='PyAVInit'),
    dict(type='UniformSample', clip_len=8, test_mode=True),
    dict(type='PyAVDecode'),
    dict(type='Resize', scale=(-1, 32)),
    dict(type='ThreeCrop', crop_size=32),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs')]))
'''
MOTION = '''
_base_ = {base!r}
model = dict(
    type='MMRecognizer3D',
    backbone=dict(type='DVTMViT', drop_path_rate=0., separable_pos_embed=True,
                  sub_clips=2),
    cls_head=dict(with_cls_token=False),
    data_preprocessor=dict(_delete_=True, type='MotionDataPreprocessor',
                           mean=[114.75] * 3, std=[57.375] * 3))
test_dataloader = dict(dataset=dict(pipeline=[
    dict(type='MotionInit'),
    dict(type='SampleFrames', clip_len=8, frame_interval=2, num_clips={clips},
         test_mode=True),
    dict(type='MotionDecode', fields={fields!r}, flow='dis'),
    dict(type='FormatMotion', stride=4),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs', collect_keys=('imgs', 'motion'))]))
'''
DETECTOR = '''
default_scope = 'mmaction'
model = {model!r}
test_pipeline = [
    dict(type='SampleKeyframeClip', clip_len=8, frame_interval=2),
    dict(type='RawFrameDecode'),
    dict(type='Resize', scale=(1333, 64)),
    dict(type='FormatShape', input_format='NCTHW', collapse=True),
    dict(type='PackActionInputs', meta_keys=('img_shape', 'video_id', 'timestamp'))]
'''
VERB_NOUN = RECOGNIZER.replace('test_dataloader', '''
model['cls_head'] = dict(
    _delete_=True, type='VerbNounHead', num_verbs=3, num_nouns=4,
    head=dict(type='MViTHead', in_channels=16))
test_dataloader''', 1)
WINDOW = 15  # frames of 8 of every 2nd


def write_video(path, frames=40, height=32, width=48, options=None, **stream_options):
    """Noise that brightens; lossless enough for pictures to be compared."""
    noise = np.random.RandomState(0).randint(0, 60, (height, width, 1)).repeat(3, 2)
    with av.open(str(path), 'w', options=options or {}) as container:
        stream = container.add_stream('libx264', rate=20, options=dict(
            crf='10', preset='ultrafast', **stream_options))
        stream.height, stream.width = height, width
        stream.pix_fmt = 'yuv444p' if height % 2 or width % 2 else 'yuv420p'
        for f in range(frames):
            image = (noise + 60 + 3 * (f % 40)).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format='rgb24')
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def frames_of(path):
    """(N, H, W, 3) of a video, and its frames a second."""
    with av.open(str(path)) as container:
        images = [frame.to_ndarray(format='rgb24')
                  for frame in container.decode(video=0)]
        return np.stack(images), float(container.streams.video[0].average_rate)


def config(text=RECOGNIZER, clips=1, **values):
    base = write_config(Path('base.py').absolute(), Path('.'))
    Path('tiny.py').write_text(text.format(base=str(base), clips=clips, **values))
    return 'tiny.py'


def detector(**changes):
    """Config of a tiny EVAD, and it with weights that tell boxes apart."""
    Path('tiny.py').write_text(DETECTOR.format(model=tiny_evad.config(**changes)))
    model = tiny_evad.detector(**changes)
    for parameter in model.action_head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    torch.save(dict(state_dict=model.state_dict(), meta={}), 'a.pth')
    return model.eval()


def saved_model(demo, path='tiny.py'):
    model = demo.build_model(demo.load_config(path))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    torch.save(dict(state_dict=model.state_dict(), meta={}), 'a.pth')
    return model.eval()


def run(demo, *arguments, video='clip.mp4', checkpoint='none'):
    """What the tool wrote as JSON, and the frames of its video."""
    demo.main(['tiny.py', checkpoint, video, '--out', 'out.mp4', '--json', 'out.json',
               '--device', 'cpu', *arguments])
    return json.loads(Path('out.json').read_text()), frames_of('out.mp4')[0]


def views_of(demo, model):
    """Scores of each view that the test dataset makes of the video."""
    clips = importlib.import_module('_clips')
    views = clips.read_clips(demo.load_config('tiny.py'), 'tiny.py', 'clip.mp4',
                             clips.takes_motion(model))
    with torch.inference_mode():
        return [clips.predict(model, view).tolist() for view in views]
