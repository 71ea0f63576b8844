# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""The generated demo videos: how they are written, and the command that does it."""
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from mmaction.datasets.transforms import DecordDecode, DecordInit, SampleFrames

from mmaction_tokenreduce.datasets.moving_shapes import (
    CLASS_NAMES,
    MovingShapesConfig,
    Written,
    draw_scene,
    files,
    render_clip,
    write_dataset,
)

SMALL = MovingShapesConfig(num_train=16, num_val=8, height=32, width=64)


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, by its relative path."""
    return {str(path.relative_to(folder)): path.read_bytes()
            for path in folder.rglob('*') if path.is_file()}


@pytest.fixture(scope='module')
def dataset(tmp_path_factory) -> Path:
    """A small data set, written by one process."""
    out = tmp_path_factory.mktemp('moving') / 'shapes'
    assert write_dataset(out, SMALL, workers=1, progress=False) == Written(24, 0)
    return out


@pytest.fixture(scope='module')
def tool(repo_dir):
    """tools/data/make_moving_shapes.py as a module."""
    path = repo_dir / 'tools/data/make_moving_shapes.py'
    spec = importlib.util.spec_from_file_location('make_moving_shapes', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_lists_name_every_video_once_and_classes_balance(dataset):
    for split, count in (('train', 16), ('val', 8)):
        lines = (dataset / f'{split}.txt').read_text().splitlines()
        names, labels = zip(*(line.split(' ') for line in lines), strict=True)
        assert list(names) == sorted(f'{split}/{i:06d}.mp4' for i in range(count))
        assert Counter(labels) == {str(label): count // 8 for label in range(8)}
    assert (dataset / 'class_names.txt').read_text().split() == list(CLASS_NAMES)
    assert {path.suffix for path in (dataset / 'train').iterdir()} == {'.mp4'}


def test_the_truth_is_what_is_drawn(dataset):
    truth = json.loads((dataset / 'truth.json').read_text())
    assert len(truth) == 24
    for name, clip in truth.items():
        split, index = name[:-4].split('/')
        _, label, info = render_clip(SMALL, int(index), split)
        assert clip['label'] == label and tuple(clip['action']) == info['action']
        np.testing.assert_allclose(clip['boxes'], info['boxes'][info['visible']],
                                   atol=0.006)


def test_videos_decode_to_what_was_drawn(dataset):
    for path in sorted(dataset.rglob('*.mp4')):
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.pix_fmt) == ('h264', 'yuv420p')
            assert stream.average_rate == 25
            decoded = np.stack([frame.to_ndarray(format='rgb24')
                                for frame in container.decode(stream)])
        drawn, _, _ = render_clip(SMALL, int(path.stem), path.parent.name)
        assert decoded.shape == drawn.shape == (34, 32, 64, 3)
        # Luma: half of the colour resolution goes with yuv420p.
        error = decoded.mean(-1) - drawn.mean(-1)
        assert 10 * np.log10(255**2 / np.square(error).mean()) > 33


def test_mmaction_reads_the_videos(dataset):
    for test_mode in (False, True):
        results = dict(filename=str(dataset / 'val/000003.mp4'), start_index=0)
        sample = SampleFrames(16, frame_interval=2, num_clips=1, test_mode=test_mode)
        for transform in (DecordInit(), sample, DecordDecode()):
            results = transform.transform(results)
        assert len(results['imgs']) == 16
        first = int(results['frame_inds'][0])
        assert first in (0, 1, 2)
        drawn, _, _ = render_clip(SMALL, 3, 'val')
        error = np.stack(results['imgs']).mean(-1) - drawn[first::2][:16].mean(-1)
        assert np.abs(error).mean() < 4


def test_files_do_not_depend_on_the_number_of_processes(dataset, tmp_path):
    write_dataset(tmp_path / 'out', SMALL, workers=3, progress=False)
    assert snapshot(tmp_path / 'out') == snapshot(dataset)


def test_a_broken_off_run_leaves_whole_files_and_is_resumed(dataset, tmp_path,
                                                            monkeypatch):
    encode, calls = files.encode_mp4, []

    def failing(*args):
        calls.append(args)
        if len(calls) > 5:
            raise KeyboardInterrupt
        return encode(*args)

    monkeypatch.setattr(files, 'encode_mp4', failing)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(tmp_path, SMALL, workers=1, progress=False)
    whole = snapshot(dataset)
    names = ['settings.json', *(f'train/{i:06d}.mp4' for i in range(5))]
    assert snapshot(tmp_path) == {name: whole[name] for name in names}

    monkeypatch.setattr(files, 'encode_mp4', encode)
    damaged = tmp_path / 'train/000002.mp4'
    damaged.write_bytes(damaged.read_bytes()[:1000])
    (tmp_path / 'train/000003.mp4').write_bytes(b'')
    assert write_dataset(tmp_path, SMALL, workers=2,
                         progress=False) == Written(new=21, kept=3)
    assert snapshot(tmp_path) == whole
    assert write_dataset(tmp_path, SMALL, progress=False) == Written(0, 24)


def test_a_failing_disk_leaves_no_part_of_a_file(tmp_path, monkeypatch):
    def full(part, path):
        if path.suffix == '.mp4':
            raise OSError(28, 'No space left on device')
        replace_file(part, path)

    replace_file = os.replace
    monkeypatch.setattr(files.os, 'replace', full)
    with pytest.raises(OSError, match='No space'):
        write_dataset(tmp_path, SMALL, workers=1, progress=False)
    assert list(snapshot(tmp_path)) == ['settings.json']


def test_an_error_in_a_worker_process_ends_the_run(tmp_path):
    write_dataset(tmp_path, SMALL, workers=1, progress=False)
    blocked = tmp_path / 'val/000001.mp4'
    blocked.unlink()
    blocked.mkdir()  # neither a video, nor can one be put there
    (tmp_path / 'train/000000.mp4').unlink()
    with pytest.raises(OSError, match='000001.mp4'):
        write_dataset(tmp_path, SMALL, workers=2, progress=False)
    assert not [path for path in tmp_path.rglob('.*')]


def test_the_progress_bar_counts_videos(tmp_path, capsys):
    write_dataset(tmp_path, replace(SMALL, num_train=3, num_val=1), workers=1)
    assert '4/4' in capsys.readouterr().err


@pytest.mark.parametrize('spoil, error, message', [
    (lambda out: replace_setting(out, seed=5), ValueError,
     r'settings.json has seed 5, but 0 is wanted; give the same settings or another'),
    (lambda out: replace_setting(out, version=1), ValueError,
     'has version 1, but 2 is wanted'),
    (lambda out: replace_setting(out, extra=3), ValueError,
     'has extra 3, but None is wanted'),
    (lambda out: (out / 'settings.json').write_text('{'), ValueError, 'is damaged'),
    (lambda out: (out / 'settings.json').unlink(), ValueError,
     'holds other files and no settings.json; give a new or empty folder'),
])
def test_a_folder_of_another_data_set_is_left_alone(tmp_path, spoil, error, message):
    config = replace(SMALL, num_train=1, num_val=1)
    write_dataset(tmp_path, config, workers=1, progress=False)
    spoil(tmp_path)
    before = snapshot(tmp_path)
    with pytest.raises(error, match=message):
        write_dataset(tmp_path, config, workers=1, progress=False)
    assert snapshot(tmp_path) == before


def replace_setting(out: Path, **changes: int) -> None:
    """Change settings.json of a data set."""
    path = out / 'settings.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# The command line


@pytest.mark.parametrize('options, line', [
    (['--num-train', '0'], 'num_train is 0; allowed is at least 1'),
    (['--size', '20'], 'height is 20; allowed is 32 to 1024'),
    (['--size', '64', '64', '3'], '--size takes one or two numbers, got 3'),
    (['--action', '6', '20'], 'max_action is 20, but the clip has room for 15 '
     '(clip_len 16, spare_frames 2, stride 2)'),
    (['--workers', '0'], 'workers is 0; allowed is at least 1'),
    (['--preview', 'picture.jpg'], '--preview picture.jpg: the name must end in .png'),
    ([], 'OUT is a file; give a folder for the data set'),
])
def test_a_users_mistake_gets_one_line(tool, tmp_path, capsys, options, line):
    out = tmp_path / 'out'
    if not options:
        out.write_text('')
    with pytest.raises(SystemExit, match='2'):
        tool.main([str(out), *options])
    shown = capsys.readouterr().err.replace(str(out), 'OUT')
    assert shown == f'error: {line}\n'
    assert out.is_file() or not out.exists()


def test_the_command_writes_the_data_set_and_a_preview(tool, tmp_path, capsys):
    options = ['--num-train', '8', '--num-val', '2', '--size', '32', '48',
               '--workers', '1', '--seed', '7', '--clip-len', '12', '--stride', '1',
               '--action', '6', '7', '--crf', '20',
               '--preview', str(tmp_path / 'pictures/strips.png')]
    tool.main([str(tmp_path / 'out'), *options])
    assert capsys.readouterr().out.endswith('10 videos written, 0 were there\n')
    settings = json.loads((tmp_path / 'out/settings.json').read_text())
    asked = dict(seed=7, num_train=8, num_val=2, height=32, width=48, clip_len=12,
                 stride=1, min_action=6, max_action=7, crf=20)
    assert asked.items() <= settings.items()

    picture = cv2.imread(str(tmp_path / 'pictures/strips.png'))[..., ::-1]
    # 8 strips of 12 frames, three times as large, with borders and captions
    assert picture.shape == (8 * (28 + 32 * 3 + 6) + 16, 12 * (48 * 3 + 6) + 16, 3)
    blue = (picture == tool.ACTION).all(-1)
    borders = blue[8 + 28 + 1, 8 + 10::150]  # of the first strip's frames
    frames = len(draw_scene(MovingShapesConfig(**{
        key: settings[key] for key in settings if key != 'version'}), 0,
        'train').paths['x'])
    assert borders.sum() == frames


def test_ctrl_c_leaves_whole_videos(repo_dir, tmp_path):
    command = [sys.executable, str(repo_dir / 'tools/data/make_moving_shapes.py'),
               str(tmp_path / 'out'), '--num-train', '20000', '--workers', '2']
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True,
                               stderr=subprocess.STDOUT, start_new_session=True)
    try:
        ends = time.monotonic() + 60
        while len(list(tmp_path.rglob('*.mp4'))) < 20 and time.monotonic() < ends:
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: workers as well
        shown, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert shown.splitlines()[-1] == 'interrupted; the same command goes on from here'
    assert 'Traceback' not in shown
    videos = list((tmp_path / 'out/train').iterdir())
    assert 20 <= len(videos) < 20000
    for path in videos:
        with av.open(str(path)) as container:
            assert container.streams.video[0].frames == 34
    assert not (tmp_path / 'out/train.txt').exists()
