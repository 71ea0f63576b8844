# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""tools/visualize_tokens.py on a tiny detector, a folder of frames and a tiny video."""
import importlib
import re
import shutil
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import tiny_evad
import torch
from mmaction.registry import MODELS, TRANSFORMS
from mmengine.dataset import Compose, pseudo_collate
from PIL import Image
from tiny_run import forget_runs

from mmaction_tokenreduce.visualization import (
    PruningTrace,
    VideoFile,
    draw_detections,
)

PIPELINE = [dict(type='SampleKeyframeClip', clip_len=8, frame_interval=2),
            dict(type='RawFrameDecode'),
            dict(type='Resize', scale=(1333, 64)),
            dict(type='FormatShape', input_format='NCTHW', collapse=True),
            dict(type='PackActionInputs', meta_keys=(
                'img_shape', 'original_shape', 'img_key', 'video_id',
                'timestamp'))]
FPS, FRAMES, HEIGHT, WIDTH = 4, 24, 48, 80
NAMES = ['run', 'sit', 'throw', 'talk', 'sleep']
LABEL = 'item {{\n  name: "{0}"\n  id: {1}\n}}\n'


@pytest.fixture(scope='module')
def frames():
    noise = np.random.RandomState(0)
    return [cv2.resize(noise.randint(0, 256, (6, 10, 3), dtype=np.uint8),
                       (WIDTH, HEIGHT)) for _ in range(FRAMES)]


@pytest.fixture(scope='module')
def folder(tmp_path_factory, frames):
    """A folder with a config, a checkpoint and frames."""
    path = tmp_path_factory.mktemp('made')
    (path / 'map.pbtxt').write_text(''.join(
        LABEL.format(name, number) for number, name in enumerate(NAMES, 1)))
    (path / 'frames').mkdir()
    for number, frame in enumerate(frames, 1):
        cv2.imwrite(str(path / f'frames/img_{number:05}.jpg'), frame)
    write_config(path / 'tiny.py')
    torch.save(dict(state_dict=detector().state_dict(), meta={}), path / 'a.pth')
    return path


@pytest.fixture
def tool(repo_dir, monkeypatch, tmp_path, folder):
    """The module, in a copy of the folder."""
    monkeypatch.syspath_prepend(str(repo_dir / 'tools'))
    monkeypatch.chdir(shutil.copytree(folder, tmp_path / 'copy'))
    yield importlib.import_module('visualize_tokens')
    forget_runs()


def detector():
    torch.manual_seed(0)
    model = MODELS.build(tiny_evad.config()).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def write_config(path, pipeline=PIPELINE, **kwargs):
    dataset = dict(type='CheckedAVADataset', fps=FPS, label_file='map.pbtxt',
                   pipeline=pipeline)
    path.write_text(f'model = {tiny_evad.config(**kwargs)!r}\n'
                    f'test_dataloader = dict(dataset={dataset!r})\n')


def packed(timestamp, folder='frames'):
    """The clip as the data set reads it."""
    steps = Compose([TRANSFORMS.build(dict(step, _scope_='mmaction'))
                     for step in PIPELINE])
    return steps(dict(frame_dir=folder, filename_tmpl='img_{:05}.jpg', start_index=1,
                      modality='RGB', fps=FPS, timestamp=timestamp, timestamp_start=0,
                      total_frames=FRAMES, img_key='', video_id=''))


class Drawn:
    """Takes the place of a function of a module and keeps what it is given."""

    def __init__(self, monkeypatch, name):
        self.calls = []
        monkeypatch.setattr(name, self)

    def __call__(self, *args):
        self.calls.append(args)
        return args[0]


def test_four_files(tool, capsys):
    tool.main(['tiny.py', 'a.pth', 'frames', '--person-thr', '0', '--score-thr', '0'])
    out = capsys.readouterr().out.splitlines()
    assert out[0] == 'keyframe at 3.00 s'
    assert re.fullmatch(r'kept within block 1: 90 of 128 tokens \(70%\); of the token '
                        r'frames \d+, \d+, 32, \d+', out[1])
    assert out[3] == 'keyframe: token frame #2'
    assert out[6] == 'frame 12, 3.00 s: 10 actors, probability 0 or more'
    assert re.fullmatch(r'actor 0: person \d\.\d\d, box (\d\.\d{3}(, )?){4}: '
                        r'((run|sit|throw|talk|sleep) \d\.\d\d(, )?){5}', out[7])
    files = [f'work_dirs/tokens/tiny_frames{end}' for end in (
        '.png', '.gif', '_detections.png', '_detections.mp4')]
    assert [line[6:] for line in out if line.startswith('wrote ')] == files
    with Image.open(files[1]) as moving:
        assert moving.n_frames == 8
    scale = 8  # to 360 px at least
    assert cv2.imread(files[2]).shape == (scale * HEIGHT, scale * WIDTH, 3)
    with av.open(files[3]) as container:
        stream = container.streams.video[0]
        assert (stream.height, stream.width) == (scale * HEIGHT, scale * WIDTH)
        # frames 4 to 18, and the keyframe a second long
        assert len(list(container.decode(video=0))) == 15 + FPS - 1


def test_what_is_drawn_is_what_the_detector_finds(tool, monkeypatch, capsys):
    model, clip = detector(), packed(2)
    model.load_state_dict(torch.load('a.pth')['state_dict'])
    model.person_thr = 0.4
    with torch.no_grad(), PruningTrace(model) as trace:
        (sample, ) = model(**model.data_preprocessor(pseudo_collate([clip]), False),
                           mode='predict')
    found = sample.pred_instances
    drawn = Drawn(monkeypatch, '_detection_picture.draw_detections')
    rows = Drawn(monkeypatch, '_pictures.plot_overlays')
    tool.main(['tiny.py', 'a.pth', 'frames', '--time', '2', '--person-thr', '0.4',
               '--score-thr', '0.3', '--device', 'cpu'])
    there = found.person_scores >= 0.4
    image, boxes, captions = drawn.calls[0]
    assert len(boxes) == there.sum() > 0
    np.testing.assert_allclose(boxes, found.bboxes[there], atol=1e-5)
    for line, scores in zip(captions, found.scores[there], strict=True):
        best = sorted(((float(score), NAMES[k - 1]) for k, score in enumerate(scores)
                       if k and score >= 0.3), reverse=True)
        assert line == [f'{name} {score:.2f}' for score, name in best]
    keyframe = cv2.imread('frames/img_00009.jpg')[..., ::-1]
    small = cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(int) - keyframe).mean() < 4
    # 64 x 107 px, padded to 64 x 128
    images, overlays, path, heading = rows.calls[0]
    assert str(path) == 'work_dirs/tokens/tiny_frames_2s.png'
    np.testing.assert_array_equal(
        images[:, :, :107], clip['inputs'].permute(1, 2, 3, 0)[::2].numpy())
    assert images.shape == (4, 64, 128, 3) and (images[:, :, 107:] == 114).all()
    for overlay, grid in zip(overlays[1:], trace.pruned(0, (4, 4, 8)), strict=True):
        np.testing.assert_array_equal(overlay.kept, grid.kept)
    assert heading == 'frames, tiny: keyframe at 2.00 s'


def test_video_files_and_views_that_are_crops(tool, monkeypatch, frames):
    """What is found in a crop is drawn at its place in the frame."""
    with VideoFile('clip.mp4', FPS, (HEIGHT, WIDTH)) as video:
        for frame in frames:
            video.write(frame)
    write_config(Path('tiny.py'), [*PIPELINE[:2], dict(type='CenterCrop', crop_size=32),
                                   *PIPELINE[3:]])
    drawn = Drawn(monkeypatch, '_detection_picture.draw_detections')
    tool.main(['tiny.py', 'a.pth', 'clip.mp4', '--time', '0', '--person-thr', '0',
               '--detections', '--out', 'a.png'])
    ((image, boxes, _), ) = drawn.calls
    assert boxes[:, ::2].min() >= 0.299 and boxes[:, ::2].max() <= 0.701
    assert boxes[:, 1::2].min() >= 0.166 and boxes[:, 1::2].max() <= 0.834
    small = cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(int) - frames[0]).mean() < 12


def test_video_shows_the_boxes(tool, frames):
    tool.main(['tiny.py', 'a.pth', 'frames', '--person-thr', '0', '--score-thr', '1',
               '--out', 'a.mp4'])
    tool.main(['tiny.py', 'a.pth', 'frames', '--person-thr', '0', '--score-thr', '1',
               '--detections', '--out', 'a.png'])
    assert not Path('work_dirs').exists()
    still = cv2.imread('a.png')[..., ::-1].astype(int)
    with av.open('a.mp4') as container:
        played = [frame.to_ndarray(format='rgb24').astype(int)
                  for frame in container.decode(video=0)]
    assert np.abs(played[8] - still).mean() < 6  # frame 12 of 4 to 18
    plain = draw_detections(np.zeros_like(still, np.uint8), np.zeros((0, 4)), [])
    assert np.abs(plain - still).mean() > 40


def test_detector_without_pruning_has_no_picture_of_tokens(tool):
    write_config(Path('tiny.py'), keep=(1, 1, 1, 1))
    tool.main(['tiny.py', 'none', 'frames', '--classes', 'map.pbtxt'])
    assert sorted(path.name for path in Path('work_dirs/tokens').iterdir()) == [
        'tiny_frames_detections.mp4', 'tiny_frames_detections.png']


def test_names_of_actions(tool):
    config = tool.load_config('tiny.py')
    expected = dict(enumerate(NAMES, 1))
    assert tool.label_names(config, None, 5) == expected
    Path('names.txt').write_text('\n'.join(NAMES))
    assert tool.label_names(config, 'names.txt', 5) == expected
    del config.test_dataloader.dataset['label_file']
    assert tool.label_names(config, None, 5) == {}
    config.test_evaluator = [dict(type='AVAMetric', label_file='map.pbtxt')]
    assert tool.label_names(config, None, 5) == expected


@pytest.mark.parametrize('arguments, words', [
    (['frames', '--time', '6'], r'--time 6: frame 24 is not in frames, which has 24 '
                                r'frames, 6\.00 s'),
    (['frames', '--time', '-1'], r'--time -1: frame -4 is not in frames'),
    (['gone'], 'video gone cannot be read: no such file'),
    (['empty'], 'folder empty cannot be read: it holds no numbered images'),
    (['gap'], 'folder gap cannot be read: it holds 2 files from img_1.jpg on, '),
    (['broken'], r'frame broken/img_2\.jpg cannot be read: it is no image'),
    (['frames', '--view', '1'], '--view 1 is for recognisers; --time says'),
    (['frames', '--score-thr', '2'], '--score-thr 2.0: must be from 0 to 1'),
    (['frames', '--out', 'a.avi'], '--out a.avi: must end in .png, .pdf, .svg or .gif'),
    (['frames', '--out', 'a.gif', '--detections'],
     '--out a.gif: must end in .png or .mp4'),
    (['frames', '--classes', 'gone.pbtxt'], 'label map gone.pbtxt not found'),
    (['frames', '--rollout'], r'out_indices=\(0, 1, 2, 3\) hands tokens to a detector'),
    (['frames', '--motion'], '--motion: the model of config file tiny.py takes no'),
    (['frames', '--cfg-options', 'test_dataloader.dataset.pipeline.0.type=SampleFrames',
      'test_dataloader.dataset.pipeline.0.frame_interval=1'],
     'the test pipeline must have SampleKeyframeClip or SampleAVAFrames'),
])
def test_mistakes_are_one_line(tool, capfd, arguments, words):
    for name, files in (('empty', ()), ('gap', (1, 3)), ('broken', (1, 2, 3))):
        Path(name).mkdir()
        for number in files:
            Path(name, f'img_{number}.jpg').write_text('no image')
    if arguments == ['broken']:
        cv2.imwrite('broken/img_1.jpg', np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(SystemExit) as ended:
        tool.main(['tiny.py', 'a.pth', *arguments])
    assert ended.value.code == 2
    lines = [line for line in capfd.readouterr().err.splitlines()
             if line.startswith('error: ')]
    assert len(lines) == 1 and re.search(words, lines[0]), lines
    assert not Path('work_dirs').exists()
