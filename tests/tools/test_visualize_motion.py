# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""tools/visualize_tokens.py on tiny models of deformable attention."""
import importlib
import re
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from tiny_run import forget_runs, write_config

from mmaction_tokenreduce.visualization import PointTrace

CONFIG = '''
_base_ = {base!r}
model = dict(
    type='MMRecognizer3D',
    backbone=dict(type='DVTMViT', drop_path_rate=0.,
                  separable_pos_embed=True, sub_clips=2, attention={attention!r}),
    cls_head=dict(with_cls_token=False),
    data_preprocessor=dict(_delete_=True, type='MotionDataPreprocessor',
                           mean=[114.75] * 3, std=[57.375] * 3))
test_dataloader = dict(dataset=dict(pipeline=[
    dict(type='MotionInit'),
    dict(type='SampleFrames', clip_len=8, frame_interval=2, num_clips=2,
         test_mode=True),
    dict(type='MotionDecode'),
    dict(type='FormatMotion', stride=4),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs', collect_keys=('imgs', 'motion'))]))
'''
PLAIN = '''
_base_ = {base!r}
model = dict(
    backbone=dict(type='DVTMViT', separable_pos_embed=True,
                  attention={attention!r}),
    cls_head=dict(with_cls_token=False))
'''
VERB_NOUN = """
_base_ = 'tiny.py'
model = dict(cls_head=dict(
    _delete_=True, type='VerbNounHead', num_verbs=3, num_nouns=4,
    head=dict(type='MViTHead', in_channels=16, with_cls_token=False)))
"""


def write_moving(path, frames=40):
    """A textured square of 12 px on noise, 1 px to the right from frame to frame."""
    noise = np.random.RandomState(0)
    ground = noise.randint(90, 130, (32, 32, 3)).astype(np.uint8)
    square = noise.randint(0, 256, (12, 12, 3)).astype(np.uint8)
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('libx264', rate=16, options=dict(
            bf='0', refs='1', crf='10', g='250'))
        stream.width = stream.height = 32
        stream.pix_fmt = 'yuv420p'
        for f in range(frames):
            image = ground.copy()
            image[10:22, f % 20:f % 20 + 12] = square
            frame = av.VideoFrame.from_ndarray(image, format='rgb24')
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.fixture
def tool(repo_dir, monkeypatch, tmp_path):
    """The module tools/visualize_tokens.py, in an empty folder with a video in it."""
    monkeypatch.syspath_prepend(str(repo_dir / 'tools'))
    monkeypatch.chdir(tmp_path)
    write_moving('clip.mp4')
    yield importlib.import_module('visualize_tokens')
    forget_runs()


def config(attention='st', text=CONFIG):
    """Writes the config of a model with 4 token frames of 8x8 places, 2 blocks."""
    base = write_config(Path('base.py').absolute(), Path('.'))
    Path('tiny.py').write_text(text.format(base=str(base), attention=attention))
    return 'tiny.py'


class Drawn:
    """Takes the place of a function that draws, and keeps what it is given."""

    def __init__(self, monkeypatch, tool, name):
        monkeypatch.setattr(f'{tool.choose_pictures.__module__}.{name}', self)

    def __call__(self, *given):
        self.given = given


def clip_of(tool, number=0):
    return tool.read_clips(tool.load_config('tiny.py'), 'tiny.py', 'clip.mp4',
                           True)[number]


def saved_model(tool, path):
    """A model of the config whose points depend on everything."""
    model = tool.build_model(tool.load_config('tiny.py'))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)
    return model.eval()


def test_points_are_those_that_the_model_samples(tool, monkeypatch, capsys):
    path = config('st+ms')
    model, clip = saved_model(tool, 'a.pth'), clip_of(tool, 1)
    assert not torch.equal(clip.motion, clip_of(tool, 0).motion)
    with torch.inference_mode(), PointTrace(model, [1]) as trace:
        model.backbone(((clip.imgs.float() - 114.75) / 57.375)[None],
                       clip.motion.float()[None])
    drawn = Drawn(monkeypatch, tool, 'plot_points')
    tool.main([path, 'a.pth', 'clip.mp4', '--query', '1', '10', '20', '--block', '1',
               '--head', '0', '--view', '1', '--out', 'new/a.png', '--device', 'cpu'])
    images, (row, ), out, heading = drawn.given
    np.testing.assert_array_equal(images, clip.imgs.permute(1, 2, 3, 0)[::2].numpy())
    assert out == Path('new/a.png')
    assert re.fullmatch(r'clip.mp4, tiny: Predicted class \d, score 0.\d\d; query in '
                        r'token frame #1, row 10, column 20 \(as asked for\)', heading)
    expected = trace.points(1, 0, 1, (10, 20))
    assert len(row.parts) == len(expected) == 2
    for part, want in zip(row.parts, expected, strict=True):
        assert part.kind == want.kind and part.frames == want.frames
        np.testing.assert_allclose(part.xy, want.xy[:1], atol=1e-3)
        np.testing.assert_allclose(part.weight, want.weight[:1], atol=1e-5)
    assert row.title.startswith('Block #1 of 2, head 0 of 2 heads: D-ST-A, 8 points a '
                                'frame, cells of 4 px, weights ')
    printed = capsys.readouterr().out
    assert 'query: token frame #1, row 10, column 20 (as asked for)' in printed
    share, x = re.findall(r'block 1, D-ST-A, .* #0 (\d+)% at \((.*?),', printed)[0]
    assert float(share) / 100 == pytest.approx(row.parts[0].shares[0], abs=0.006)
    assert float(x) == pytest.approx(row.parts[0].offsets[0, 0], abs=0.06)


def test_default_query_is_on_what_moves(tool, monkeypatch, capsys):
    drawn = Drawn(monkeypatch, tool, 'plot_points')
    tool.main([config(), 'none', 'clip.mp4'])
    images, rows, out, heading = drawn.given
    assert out == Path('work_dirs/tokens/tiny_clip.png')
    assert not Path('work_dirs').exists()  # and no moving picture
    assert [row.title[:13] for row in rows] == ['Block #0 of 2', 'Block #1 of 2']
    # Token frame 3 is the last of the two in the second sub-clip: sampled frame 6,
    # frame 12 of the video, where the square spans columns 12 to 24, rows 10 to 22.
    query = rows[0].parts[0]
    assert query.frame == 3 and query.frames == (2, 3)
    assert 10 < query.query[1] < 22 and 12 <= query.query[0] < 24
    assert '(which moves most)' in heading and 'Untrained weights' in heading
    tool.main(['tiny.py', 'none', 'clip.mp4', '--cfg-options',
               'model.backbone.sub_clips=1'])
    assert drawn.given[1][0].parts[0].frame == 2
    assert drawn.given[1][0].parts[0].frames == (0, 1, 2, 3)


def test_picture_of_points(tool, capsys):
    tool.main([config('st+ms'), 'none', 'clip.mp4'])
    assert capsys.readouterr().out.endswith('wrote work_dirs/tokens/tiny_clip.png\n')
    with Image.open('work_dirs/tokens/tiny_clip.png') as still:
        assert still.width > 700 and still.height > 700
    assert len(list(Path('work_dirs/tokens').iterdir())) == 1


def test_a_plain_recognizer_with_attention_over_scales(tool, monkeypatch, capsys):
    drawn = Drawn(monkeypatch, tool, 'plot_points')
    tool.main([config('ms', PLAIN), 'none', 'clip.mp4'])
    (part, ) = drawn.given[1][0].parts
    assert part.kind == 'D-MS-A' and part.frames == (2, 2)
    assert 'row 16, column 16 (the centre)' in capsys.readouterr().out


def test_verbs_and_nouns(tool, monkeypatch, capsys):
    config()
    Drawn(monkeypatch, tool, 'plot_points')
    Path('two.py').write_text(VERB_NOUN)
    model = tool.build_model(tool.load_config('two.py'))
    torch.save(dict(state_dict=model.state_dict(), meta={}), 'a.pth')
    tool.main(['two.py', 'a.pth', 'clip.mp4'])
    assert re.match(r'Predicted verb [0-2], score 0.\d\d; noun [0-3], score 0.\d\d\n',
                    capsys.readouterr().out)
    with pytest.raises(SystemExit):
        tool.main(['two.py', 'a.pth', 'clip.mp4', '--classes', 'names.txt'])
    assert '--classes names.txt: the model has several tasks, verb, noun' in (
        capsys.readouterr().err)


def test_motion_is_that_of_the_pipeline(tool, monkeypatch, capsys):
    drawn = Drawn(monkeypatch, tool, 'plot_overlays')
    tool.main([config(), 'none', 'clip.mp4', '--motion', '--out', 'a.png'])
    images, (frames, field, residual), out, heading = drawn.given
    clip = clip_of(tool)
    np.testing.assert_array_equal(images, clip.imgs.permute(1, 2, 3, 0)[::2].numpy())
    assert heading == 'clip.mp4, tiny'  # no weights are in it
    assert field.fields.shape == (4, 2, 8, 8)
    # Sampled frames are two frames apart, token frames four: the square was 4 px to
    # the left a token frame before. At sampled frame 4 it spans columns 8 to 20.
    np.testing.assert_allclose(field.fields[2, 0, 3:5, 2:4], -4, atol=0.1)
    np.testing.assert_allclose(field.fields[2, 1, 3:5, 2:4], 0, atol=0.1)
    assert not field.fields[2][:, [0, 1, 6, 7]].any()
    printed = capsys.readouterr().out
    assert field.title in printed and residual.title in printed
    means = re.findall(r'mean px of each token frame: (.*)', printed)[0].split(', ')
    np.testing.assert_allclose([float(mean) for mean in means],
                               np.hypot(field.fields[:, 0], field.fields[:, 1])
                               .mean((1, 2)), atol=0.051)
    assert re.search('stream: .*codec h264', printed)


def test_pictures_of_motion(tool, capsys):
    tool.main([config('ms'), 'none', 'clip.mp4', '--motion', '--view', '1'])
    with Image.open('work_dirs/tokens/tiny_clip_view1_motion.gif') as moving:
        assert moving.n_frames == 8 and moving.width > 900
    with Image.open('work_dirs/tokens/tiny_clip_view1_motion.png') as still:
        assert still.width > 700 and still.height > 500


@pytest.mark.parametrize('arguments, words', [
    (['--query', '4', '0', '0'], '--query 4 0 0: FRAME must be from 0 to 3'),
    (['--query', '0', '32', '0'], '--query 0 32 0: ROW must be from 0 to 31'),
    (['--query', '0', '0', '-1'], '--query 0 0 -1: COLUMN must be from 0 to 31'),
    (['--block', '2'], 'block 2: the model has 2 blocks, 0 to 1'),
    (['--head', '1'], 'head 1: D-ST-A has 1 heads here, 0 to 0'),
    (['--out', 'a.gif'], '--out a.gif: must end in .png, .pdf or .svg$'),
    (['--motion', '--rollout'], '--motion and --rollout are two pictures'),
    (['--motion', '--block', '0'], '--block is for the picture of sampled points, '
     'without --motion'),
    (['--rollout'], 'holds no attention that can be rolled out'),
    (['--cfg-options', 'test_dataloader.dataset.pipeline.3.stride=8'],
     r'motion is 1x2x8x4x4: clips of .* and motion_stride=4 need 1x2x8x8x8'),
    (['--cfg-options', "test_dataloader.dataset.pipeline.5.collect_keys=('imgs',)"],
     r"must decode a video, end in .*PackActionInputs\(collect_keys=\('imgs', 'mot"),
])
def test_mistakes_are_one_line(tool, capfd, arguments, words):
    with pytest.raises(SystemExit) as ended:
        tool.main([config(), 'none', 'clip.mp4', *arguments])
    assert ended.value.code == 2
    lines = [line for line in capfd.readouterr().err.splitlines()
             if line.startswith('error: ')]
    assert len(lines) == 1 and re.search(words, lines[0]), lines
    assert not Path('work_dirs').exists()


def test_a_pipeline_of_motion_needs_a_model_that_takes_it(tool, capfd):
    config('ms')
    with pytest.raises(SystemExit):
        tool.main(['tiny.py', 'none', 'clip.mp4', '--cfg-options',
                   'model.type=Recognizer3D'])
    assert ('end in FormatShape(input_format=\'NCTHW\') and PackActionInputs, and '
            'leave' in capfd.readouterr().err)
