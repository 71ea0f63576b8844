# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""tools/demo.py on tiny models, tiny videos and a camera that is none."""
import importlib
import json
import os
import re
import signal
from pathlib import Path

import av
import numpy as np
import pytest
import tiny_evad
import torch
from tiny_run import NUM_CLASSES, forget_runs, write_config

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


@pytest.fixture
def tool(repo_dir, monkeypatch, tmp_path):
    """The module tools/demo.py, in an empty folder with a video in it."""
    monkeypatch.syspath_prepend(str(repo_dir / 'tools'))
    monkeypatch.chdir(tmp_path)
    write_video('clip.mp4')
    yield importlib.import_module('demo')
    forget_runs()


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


def saved_model(tool, path='tiny.py'):
    model = tool.build_model(tool.load_config(path))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    torch.save(dict(state_dict=model.state_dict(), meta={}), 'a.pth')
    return model.eval()


def run(tool, *arguments, video='clip.mp4', checkpoint='none'):
    """What the tool wrote as JSON, and the frames of its video."""
    tool.main(['tiny.py', checkpoint, video, '--out', 'out.mp4', '--json', 'out.json',
               '--device', 'cpu', *arguments])
    return json.loads(Path('out.json').read_text()), frames_of('out.mp4')[0]


def views_of(tool, model):
    """Scores of each view that the test dataset makes of the video."""
    clips = importlib.import_module('_clips')
    views = clips.read_clips(tool.load_config('tiny.py'), 'tiny.py', 'clip.mp4',
                             clips.takes_motion(model))
    with torch.inference_mode():
        return [clips.predict(model, view).tolist() for view in views]


def test_scores_are_those_of_the_test_dataset(tool, capsys):
    # three clips of 40 frames begin at frames 0, 12.5 (rounded to 12) and 25
    model = saved_model(tool, config(clips=3))
    expected = views_of(tool, model)
    Path('names.txt').write_text('run\njump far\nswim\n')
    got, images = run(tool, '--stride', '12', '--classes', 'names.txt',
                      checkpoint='a.pth')
    assert [w['first_frame'] for w in got['windows']] == [0, 12, 24, 25]
    assert [w['last_frame'] for w in got['windows']] == [14, 26, 38, 39]
    assert [w['seconds'] for w in got['windows']] == [0, 0.6, 1.2, 1.25]
    scores = [w['scores'] for w in got['windows']]
    np.testing.assert_allclose([scores[0], scores[1], scores[3]], expected, atol=2e-6)
    np.testing.assert_allclose(got['mean_scores'], np.mean(scores, 0), atol=2e-6)
    assert got['frames'] == 40
    assert got['names'] == {'class': ['run', 'jump far', 'swim']}
    order = np.argsort(got['mean_scores'])[::-1]
    shown = re.findall(r'^(\d)\. (.*): (.*)$', capsys.readouterr().out, re.M)
    assert [name for _, name, _ in shown] == [got['names']['class'][k] for k in order]
    assert float(shown[0][2]) == pytest.approx(max(got['mean_scores']), abs=6e-4)
    assert images.shape[0] == 40 and images.shape[2] == 48 * 7  # at least 320 wide


def test_verbs_and_nouns(tool, capsys):
    saved_model(tool, config(VERB_NOUN))
    got, _ = run(tool, checkpoint='a.pth')
    out = capsys.readouterr().out
    for task, count in (('verb', 3), ('noun', 4)):
        rows = [w['scores'][task] for w in got['windows']]
        np.testing.assert_allclose(np.sum(rows, 1), 1, atol=1e-5)
        mean = np.mean(rows, 0)
        np.testing.assert_allclose(got['mean_scores'][task], mean, atol=2e-6)
        assert len(mean) == count
        assert f'1. {task} {mean.argmax()}: {mean.max():.3f}' in out
    Path('names.txt').write_text('a\nb\nc\n')
    with pytest.raises(SystemExit):
        run(tool, '--classes', 'names.txt')
    assert 'names.txt: the model has several tasks' in capsys.readouterr().err


def test_batches_change_nothing(tool):
    saved_model(tool, config())
    one, pictures = run(tool, '--stride', '4', '--top-k', '2', checkpoint='a.pth')
    many, same = run(tool, '--stride', '4', '--top-k', '2', '--batch', '3',
                     checkpoint='a.pth')
    assert len(one['windows']) == 8  # of 15 frames, 0 to 24 by 4, and 25
    for a, b in zip(one['windows'], many['windows'], strict=True):
        np.testing.assert_allclose(a.pop('scores'), b.pop('scores'), atol=2e-6)
        assert a == b
    assert np.abs(pictures.astype(int) - same).mean() < 0.5


def test_dropped_frames_are_dark_where_the_model_looks(tool):
    config()
    plain = run(tool, '--no-tokens', '--scale', '1')[1].astype(float)
    dimmed = run(tool, '--tokens', '--scale', '1')[1].astype(float)
    original = frames_of('clip.mp4')[0].astype(float)
    assert plain.shape[2] == 48 and np.abs(plain[:, :32] - original).mean() < 4
    # uniform selection keeps token frames 0 and 3 of 4, that is, of each window of 15
    # frames the first 4 and the last 3; the last window's first frame is 25
    ratio = dimmed[:, 4:28, 12:36].mean((1, 2, 3)) / plain[:, 4:28, 12:36].mean((1, 2,
                                                                                  3))
    kept = [f % 15 < 4 or f % 15 > 11 for f in range(30)]
    kept += [f - 25 < 4 or f - 25 > 11 for f in range(30, 40)]
    np.testing.assert_allclose(ratio, np.where(kept, 1, 0.4), atol=0.05)
    # the crop is columns 8 to 40; beyond it frames are as they were
    outside = dimmed[:, :32, :6].mean((1, 2, 3)) / plain[:, :32, :6].mean((1, 2, 3))
    np.testing.assert_allclose(outside, 1, atol=0.05)


def test_a_video_shorter_than_a_window_is_looped_as_the_sampler_does(tool):
    write_video('clip.mp4', frames=5)
    model = saved_model(tool, config())
    got, images = run(tool, checkpoint='a.pth')
    (window, ) = got['windows']
    np.testing.assert_allclose(window['scores'], views_of(tool, model)[0], atol=2e-6)
    assert (window['first_frame'], window['last_frame']) == (0, 4) and len(images) == 5


def test_merged_tokens_of_three_crops(tool, monkeypatch):
    model = saved_model(tool, config(MERGES))
    got, _ = run(tool, '--window', '40', checkpoint='a.pth')
    (window, ) = got['windows']
    # the head of this config gives logits, of which the tool makes probabilities
    expected = torch.tensor(views_of(tool, model)).softmax(1).mean(0)
    np.testing.assert_allclose(window['scores'], expected, atol=2e-6)
    tokens = importlib.import_module('_video_tokens')
    monkeypatch.setattr(tokens.MergeOverlay, 'paint',
                        lambda self, image, t: np.ones(image.shape))
    images = run(tool, '--window', '20', '--scale', '1')[1]
    assert (images[:, 2:30, 10:38] > 240).all()  # the middle crop, columns 8 to 40
    assert images[:, :32, :6].max() < 240 and images[:, :32, 42:].max() < 240


def test_motion_of_the_stream(tool):
    write_video('clip.mp4', bf='0', refs='1')
    model = saved_model(tool, config(MOTION, clips=2, fields='stream'))
    got, images = run(tool, '--stride', '25', checkpoint='a.pth')
    assert [w['first_frame'] for w in got['windows']] == [0, 25] and len(images) == 40
    np.testing.assert_allclose([w['scores'] for w in got['windows']],
                               views_of(tool, model), atol=2e-6)


def test_detection(tool, capsys):
    write_video('clip.mp4', height=51, width=71)
    model = detector(person_thr=0.0)
    Path('names.txt').write_text('sit\nstand\nrun\ntalk\nsing\n')
    got, images = run(tool, '--stride', '7', '--batch', '2', '--score-thr', '0',
                      '--classes', 'names.txt', '--top-k', '1', checkpoint='a.pth')
    original = frames_of('clip.mp4')[0]
    assert images.shape == (40, 52, 72, 3)  # even sides
    assert [w['keyframe'] for w in got['windows']] == [0, 7, 14, 21, 28, 35]
    pipeline = importlib.import_module('_video_windows').WindowPipeline(
        tool.load_config('tiny.py'), 'tiny.py', True)
    for window in got['windows']:
        inds = np.clip(window['keyframe'] + 2 * np.arange(-4, 4), 0, 39)
        results = dict(imgs=list(original[inds]), original_shape=(51, 71),
                       img_shape=(51, 71), num_clips=1, clip_len=8, modality='RGB')
        for step in pipeline.rest:
            results = step(results)
        batch = model.data_preprocessor(dict(
            inputs=[results['inputs']], data_samples=[results['data_samples']]))
        with torch.inference_mode():
            found = model(**batch, mode='predict')[0].pred_instances
        boxes = np.array([actor['box'] for actor in window['actors']])
        np.testing.assert_allclose(boxes, found.bboxes.numpy() * [71, 51, 71, 51],
                                   atol=0.02)
        np.testing.assert_allclose([actor['scores'] for actor in window['actors']],
                                   found.scores[:, 1:].numpy(), atol=1e-4)
        np.testing.assert_allclose([actor['person'] for actor in window['actors']],
                                   found.person_scores.numpy(), atol=1e-4)
    out = capsys.readouterr().out
    assert re.search(r'^60 boxes of actors on 6 keyframes$', out, re.M)  # 10 proposals
    assert re.search(r'^(sit|stand|run|talk|sing): \d+ times$', out, re.M)
    # nothing is drawn where nobody is certain to be there, though the model gives boxes
    nobody, plain = run(tool, '--person-thr', '1', '--stride', '20', checkpoint='a.pth')
    assert [w['actors'] for w in nobody['windows']] == [[], []]
    assert np.abs(plain[:, :51, :71].astype(int) - original).mean() < 4


def test_tokens_that_a_detector_keeps(tool, monkeypatch):
    write_video('clip.mp4', height=48, width=64)  # 64x86 for the model, padded to 64x96
    model = detector()
    got, images = run(tool, '--stride', '20', '--person-thr', '1', '--tokens',
                      checkpoint='a.pth')
    plain = frames_of('clip.mp4')[0].astype(float)
    ratio = images / np.maximum(plain, 1)
    # cells of 16 of 86 columns, 64 px wide here: the middle of the first three
    columns, rows = [6, 18, 30], [6, 18, 30, 42]
    cells = np.stack([[ratio[:, r - 3:r + 3, c - 3:c + 3].mean((1, 2, 3))
                       for c in columns] for r in rows], -1)  # (columns, N, rows)
    dark = cells < 0.7
    assert not dark[:, [0, 1, 20, 21]].any()  # the keyframe loses nothing
    assert dark[:, 4:7].any() and not dark[:, 4:7].all()
    trace = importlib.import_module('_video_tokens').PruningTrace(model)
    pipeline = importlib.import_module('_video_windows').WindowPipeline(
        tool.load_config('tiny.py'), 'tiny.py', True)
    original = frames_of('clip.mp4')[0]
    results = dict(imgs=list(original[20 + 2 * np.arange(-4, 4)]), num_clips=1,
                   original_shape=(48, 64), img_shape=(48, 64), clip_len=8)
    for step in pipeline.rest:
        results = step(results)
    batch = model.data_preprocessor(dict(inputs=[results['inputs']],
                                         data_samples=[results['data_samples']]))
    with torch.inference_mode(), trace:
        model(**batch, mode='predict')
    kept = trace.pruned(0, (4, 4, 6))[-1].kept
    # frame 24 is sampled frame 6, of token frame 3
    np.testing.assert_array_equal(~dark[:, 24], kept[3, :, :3].T)


class Camera:
    """Takes the place of cv2.VideoCapture and of the clock that frames are timed by."""
    opened, frames, step, stop_at = True, 60, 0.1, None

    def __init__(self, index):
        self.index, self.count = index, 0
        type(self).last = self

    def monotonic(self):
        return 5 + self.last.count * self.step

    def isOpened(self):
        return self.opened

    def get(self, what):
        return 20.

    def read(self):
        self.count += 1
        if self.count == self.stop_at:
            os.kill(os.getpid(), signal.SIGINT)
        image = np.full((32, 48, 3), (self.count, 0, 200), np.uint8)  # BGR
        return (True, image) if self.count <= self.frames else (False, None)

    def release(self):
        self.released = True


@pytest.fixture
def camera(tool, monkeypatch):
    source = importlib.import_module('_video_source')

    class Fake(Camera):
        pass

    monkeypatch.setattr(source.cv2, 'VideoCapture', Fake)
    monkeypatch.setattr(source.time, 'monotonic', lambda: Fake.monotonic(Fake))
    return Fake


def test_a_camera_plays_in_real_time(tool, camera, capsys):
    config()
    got, images = run(tool, '--seconds', '4', '--scale', '1', '--no-tokens', video='0')
    # a frame each 0.1 s, of which 39 came within 4 s; the file has 20 a second
    assert got['frames'] == 39 and len(images) == 2 * 39 + 1
    assert camera.last.index == 0 and camera.last.released
    red = images[:, :32].reshape(len(images), -1, 3).mean(1)
    assert red[:, 0].min() > 150 and red[:, 2].max() < 100  # not blue
    assert 'note' not in capsys.readouterr().err


def test_ctrl_c_keeps_what_came(tool, camera, capsys):
    config()
    camera.stop_at, before = 30, signal.getsignal(signal.SIGINT)
    got, images = run(tool, video='1')
    assert got['frames'] == 30 and len(images) == 61
    assert [w['first_frame'] for w in got['windows']] == [0, 15]
    assert 'note: camera 1: stopped after 30 frames' in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before


def test_files_that_are_cut_give_what_they_have(tool, capsys):
    write_video('whole.mp4', frames=120, options=dict(movflags='+faststart'))
    data = Path('whole.mp4').read_bytes()
    Path('cut.mp4').write_bytes(data[:len(data) * 2 // 3])
    config()
    got, images = run(tool, video='cut.mp4')
    assert 40 < got['frames'] < 119 and len(images) == got['frames']
    assert re.search(r'note: cut.mp4: the file ends early, after \d+ of 120 frames',
                     capsys.readouterr().err)


def test_damage_in_the_middle_is_passed_over(tool, capsys):
    write_video('clip.mp4', frames=60, g='1')
    data = bytearray(Path('clip.mp4').read_bytes())
    at = data.find(b'mdat') + len(data) // 3
    data[at:at + 3000] = bytes(3000)
    Path('clip.mp4').write_bytes(data)
    config()
    got, images = run(tool)
    assert 30 < got['frames'] <= 60 and len(images) == got['frames']
    assert re.search(r'of its 60 packets are damaged', capsys.readouterr().err)


def test_turned_videos_are_set_upright(tool):
    data = bytearray(Path('clip.mp4').read_bytes())
    matrix = data.find(b'tkhd') + 44
    turn = np.array([0, 1, 0, -1, 0, 0, 0, 0, 16384], dtype='>i4') * 65536
    data[matrix:matrix + 36] = turn.astype('>i4').tobytes()  # 90 degrees clockwise
    Path('turned.mp4').write_bytes(data)
    detector()
    images = run(tool, '--person-thr', '1', video='turned.mp4')[1]
    original = frames_of('clip.mp4')[0]
    assert images.shape == (40, 48, 32, 3)
    clockwise = np.rot90(original, -1, axes=(1, 2)).astype(int)
    assert np.abs(images - clockwise).mean() < 5


def test_frames_of_other_sizes_are_scaled_to_the_first(tool, capsys):
    for number, height in enumerate((32, 64)):
        write_video(f'{number}.h264', frames=20, height=height)
    Path('both.h264').write_bytes(Path('0.h264').read_bytes()
                                  + Path('1.h264').read_bytes())
    config()
    got, images = run(tool, '--scale', '1', video='both.h264')
    assert got['frames'] == 40 and images.shape[2] == 48
    assert 'other size than the first were scaled to 48x32' in capsys.readouterr().err


def test_frames_held_do_not_grow_with_the_video(tool, capsys):
    config()
    held = []
    for frames in (60, 160):
        write_video('clip.mp4', frames=frames)
        assert run(tool, '--stride', '20', '--batch', '2')[0]['frames'] == frames
        held += re.findall(r'at most (\d+) frames were held', capsys.readouterr().out)
    assert held[0] == held[1] and int(held[0]) <= WINDOW + 1 + 20


@pytest.mark.parametrize('arguments, words', [
    (['tiny.py', 'none', 'gone.mp4'], 'video gone.mp4 cannot be read: no such file'),
    (['tiny.py', 'none', 'tiny.py'], 'video tiny.py cannot be read: Invalid data'),
    (['tiny.py', 'none', 'sound.wav'], 'sound.wav cannot be read: it has no video'),
    (['tiny.py', 'none', '99'], 'camera 99 cannot be opened'),
    (['gone.py', 'none', 'clip.mp4'], 'config file gone.py not found'),
    (['tiny.py', 'gone.pth', 'clip.mp4'], 'gone.pth'),
    (['tiny.py', 'none', 'clip.mp4', '--out', 'a.avi'], '--out a.avi: must end in'),
    (['tiny.py', 'none', 'clip.mp4', '--out', 'clip.mp4'],
     '--out clip.mp4: is another file of this command'),
    (['tiny.py', 'none', 'clip.mp4', '--json', '.'], '--json . is a directory'),
    (['tiny.py', 'none', 'clip.mp4', '--stride', '0'], '--stride 0: must be at least'),
    (['tiny.py', 'none', 'clip.mp4', '--seconds', '-1'], '--seconds -1.0: must be'),
    (['tiny.py', 'none', 'clip.mp4', '--score-thr', '0.5'],
     '--score-thr is for detectors; the model of tiny.py is a recogniser'),
    (['tiny.py', 'none', 'clip.mp4', '--window', '20'],
     '--window 20: SampleFrames of the test pipeline of tiny.py says how long'),
    (['merges.py', 'none', 'clip.mp4'],
     'UniformSample of the test pipeline of merges.py spreads .* say with --window'),
    (['merges.py', 'none', 'clip.mp4', '--window', '7'],
     '--window 7: must be at least 8, clip_len of UniformSample'),
    (['base.py', 'none', 'clip.mp4', '--tokens'],
     '--tokens: the model of base.py has no reducers'),
    (['motion.py', 'none', '0'], 'camera 0 cannot be opened'),
    (['tiny.py', 'none', 'clip.mp4', '--classes', 'names.txt'],
     f'names.txt has 2 names, the model {NUM_CLASSES} classes'),
    (['tiny.py', 'none', 'clip.mp4', '--cfg-options',
      'test_dataloader.dataset.pipeline.2.type=Flip'],
     'the test pipeline must have a sampler of frames and then a decoder, got PyAV'),
    (['tiny.py', 'none', 'clip.mp4', '--cfg-options', 'model.cls_head.in_channels=17'],
     'the model cannot take 1 windows of 8 frames: mat1 and mat2'),
    (['tiny.py', 'none', 'clip.mp4', '--cfg-options', 'model.type=Recognizer2D'],
     'model.type=Recognizer2D: only Recognizer3D, MMRecognizer3D, EVAD'),
])
def test_mistakes_are_one_line(tool, capfd, arguments, words):
    Path('names.txt').write_text('a\nb\n')
    config(MERGES)
    Path('tiny.py').rename('merges.py')
    config(MOTION, fields='stream')
    Path('tiny.py').rename('motion.py')
    config()
    with av.open('sound.wav', 'w') as container:
        stream = container.add_stream('pcm_s16le', rate=8000, layout='mono')
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout='mono')
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    before = Path('clip.mp4').read_bytes()
    with pytest.raises(SystemExit) as ended:
        tool.main(arguments)
    assert ended.value.code == 2
    lines = [line for line in capfd.readouterr().err.splitlines()
             if line.startswith('error: ')]
    assert len(lines) == 1 and re.search(words, lines[0]), lines
    assert not list(Path('.').rglob('*demo_video*/*')) and not Path('a.avi').exists()
    assert Path('clip.mp4').read_bytes() == before


def test_motion_of_a_camera_is_refused_or_flows(tool, camera, capfd):
    config(MOTION, fields='stream')
    with pytest.raises(SystemExit):
        run(tool, video='0')
    assert re.search("a compressed stream, which a camera does not give: use a video "
                     "file, or a config with fields='optical_flow'",
                     capfd.readouterr().err)
    assert not Path('out.mp4').exists() and not Path('out.json').exists()
    config(MOTION, fields='optical_flow')
    assert len(run(tool, '--seconds', '2', video='0')[0]['windows']) == 2
