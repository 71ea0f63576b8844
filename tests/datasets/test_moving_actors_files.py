# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""The generated actors: how they are written, and the command that does it."""
import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from forked import run_script

from mmaction_tokenreduce.datasets.moving_actors import (
    CLASS_NAMES,
    MovingActorsConfig,
    Written,
    draw_video,
    files,
    render_take,
    write_dataset,
)

SMALL = MovingActorsConfig(num_train=5, num_val=3, keyframes=3, height=48, width=64,
                           glitches=0.2)


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, by its relative path."""
    return {str(path.relative_to(folder)): path.read_bytes()
            for path in folder.rglob('*') if path.is_file()}


@pytest.fixture(scope='module')
def dataset(tmp_path_factory) -> Path:
    """A small data set, written by one process."""
    out = tmp_path_factory.mktemp('moving') / 'actors'
    assert write_dataset(out, SMALL, workers=1, progress=False) == Written(8, 0)
    return out


@pytest.fixture(scope='module')
def tool(repo_dir):
    """tools/data/make_moving_actors.py as a module."""
    path = repo_dir / 'tools/data/make_moving_actors.py'
    spec = importlib.util.spec_from_file_location('make_moving_actors', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_frames_are_what_is_drawn(dataset):
    for name in ('train_0004', 'val_0002'):
        paths = sorted((dataset / 'frames' / name).iterdir())
        assert [path.name for path in paths] == [
            f'img_{number:05}.jpg' for number in range(1, 25)]
        shown = np.stack([cv2.imread(str(path))[..., ::-1] for path in paths])
        split, index = name.split('_')
        video = draw_video(SMALL, int(index), split)
        for number, take in enumerate(video.takes):
            drawn = render_take(SMALL, video, number)
            error = shown[8 * number:8 * number + 8].mean(-1) - drawn.mean(-1)
            assert np.abs(error).mean() < (10 if take.glitch else 2)  # JPEG hates noise


def test_annotations_are_the_truth(dataset):
    truth = json.loads((dataset / 'truth.json').read_text())
    assert list(truth) == [f'train_{i:04d}' for i in range(5)] + [
        f'val_{i:04d}' for i in range(3)]
    for split in ('train', 'val'):
        rows = [line.split(',')
                for line in (dataset / f'{split}.csv').read_text().splitlines()]
        expected = [
            (name, int(second), actor['boxes'][4], label, actor['entity'])
            for name, takes in truth.items() if name.startswith(split)
            for second, take in takes.items()
            for actor in take['actors'] for label in actor['labels']]
        assert [row[:2] + row[6:] for row in rows] == [
            [name, f'{second:04d}', str(label), str(entity)]
            for name, second, _, label, entity in expected]
        shares = np.array([row[2:6] for row in rows], float)
        np.testing.assert_allclose(shares * (64, 48, 64, 48),
                                   [box for _, _, box, _, _ in expected], atol=0.05)
        excluded = (dataset / f'{split}_excluded.csv').read_text().splitlines()
        assert excluded == [f'{name},{int(second):04d}'
                            for name, takes in truth.items() if name.startswith(split)
                            for second, take in takes.items() if take['glitch']]
        assert excluded
    assert {second for takes in truth.values() for second in takes} == {'1', '3', '5'}
    boxes = np.array([actor['boxes'] for takes in truth.values()
                      for take in takes.values() for actor in take['actors']])
    assert boxes.shape[1:] == (8, 4)


def test_mmaction_reads_the_label_map(dataset):
    from mmaction.evaluation import read_labelmap
    with open(dataset / 'action_list.pbtxt') as file:
        items, ids = read_labelmap(file)
    assert items == [dict(id=label, name=name)
                     for label, name in enumerate(CLASS_NAMES, 1)]
    assert ids == set(range(1, 9))


def test_files_do_not_depend_on_the_number_of_processes(dataset, tmp_path):
    write_dataset(tmp_path / 'out', SMALL, workers=3, progress=False)
    assert snapshot(tmp_path / 'out') == snapshot(dataset)


def test_a_broken_off_run_leaves_whole_files_and_is_resumed(dataset, tmp_path,
                                                            monkeypatch):
    write, calls = files.write_whole, []

    def failing(path, data):
        calls.append(path)
        if len(calls) > 30:
            raise KeyboardInterrupt
        write(path, data)

    monkeypatch.setattr(files, 'write_whole', failing)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(tmp_path, SMALL, workers=1, progress=False)
    whole = snapshot(dataset)
    part = snapshot(tmp_path)
    assert len(part) == 31 and 'train.csv' not in part
    assert part == {name: whole[name] for name in part}

    monkeypatch.setattr(files, 'write_whole', write)
    damaged = tmp_path / 'frames/train_0000/img_00003.jpg'
    damaged.write_bytes(damaged.read_bytes()[:500])
    assert write_dataset(tmp_path, SMALL, workers=2, progress=False) == Written(8, 0)
    assert snapshot(tmp_path) == whole
    (tmp_path / 'frames/val_0001/img_00024.jpg').unlink()
    assert write_dataset(tmp_path, SMALL, workers=1, progress=False) == Written(1, 7)
    assert snapshot(tmp_path) == whole


def test_a_folder_of_another_data_set_is_left_alone(dataset):
    before = snapshot(dataset)
    with pytest.raises(ValueError, match='has num_val 3, but 4 is wanted'):
        write_dataset(dataset, replace(SMALL, num_val=4), progress=False)
    assert snapshot(dataset) == before


# The command line


@pytest.mark.parametrize('options, line', [
    (['--num-train', '0'], 'num_train is 0; allowed is at least 1'),
    (['--clip-len', '6'], 'clip_len is 6; allowed is at least 8'),
    (['--actors', '3', '2'], 'min_actors is 3, more than max_actors, which is 2'),
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


def test_the_command_writes_the_data_set_and_a_preview(repo_dir, tmp_path):
    options = ['--num-train', '2', '--num-val', '1', '--size', '48', '64',
               '--workers', '1', '--seed', '7', '--clip-len', '12', '--keyframes', '2',
               '--actors', '2', '3', '--preview', str(tmp_path / 'pictures/takes.png')]
    done = run_script(repo_dir / 'tools/data/make_moving_actors.py', tmp_path / 'out',
                      *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith('3 videos written, 0 were there\n')
    assert '3/3' in done.stderr  # the progress bar
    settings = json.loads((tmp_path / 'out/settings.json').read_text())
    asked = dict(seed=7, num_train=2, num_val=1, height=48, width=64, clip_len=12,
                 keyframes=2, min_actors=2, max_actors=3)
    assert asked.items() <= settings.items()
    picture = cv2.imread(str(tmp_path / 'pictures/takes.png'))
    # 2 captions and strips of 12 frames, four times as large, with borders
    assert picture.shape == (2 * (28 + 48 * 4 + 6), 12 * (64 * 4 + 6), 3)
    assert len(list((tmp_path / 'out/frames/train_0001').iterdir())) == 24
