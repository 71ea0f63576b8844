# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""tools/data/check_ava.py: each fault in a sentence, and a set without any."""
import importlib.util
import time

import pytest

from mmaction_tokenreduce.datasets.frame_folders import numbering

ROWS = ['v1,0001,0.1,0.2,0.5,0.6,1,0', 'v1,0001,0.1,0.2,0.5,0.6,2,0',
        'v1,0003,0.5,0.0,1.0,1.0,2,1', 'v2,0002,0.0,0.0,0.25,0.5,1,0']
MAP = 'item {\n  name: "run"\n  id: 1\n}\nitem {\n  name: "sit"\n  id: 2\n}\n'


@pytest.fixture(scope='module')
def tool(repo_dir):
    path = repo_dir / 'tools/data/check_ava.py'
    spec = importlib.util.spec_from_file_location('check_ava', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def files(tmp_path):
    """Two videos of 4 seconds, 10 frames each."""
    for video in ('v1', 'v2'):
        folder = tmp_path / 'frames' / video
        folder.mkdir(parents=True)
        for number in range(1, 41):
            (folder / f'img_{number:05}.jpg').write_bytes(b'something')
    (tmp_path / 'ann.csv').write_text('\n'.join(ROWS) + '\n')
    (tmp_path / 'map.pbtxt').write_text(MAP)
    (tmp_path / 'excluded.csv').write_text('v2,0002\n')
    return tmp_path


@pytest.fixture
def run(tool, files, capsys):
    """Status and lines of the tool, without the folder's name."""
    def call(*options, start='0', end='4', fps='10'):
        status = 0
        try:
            tool.main([str(files / 'ann.csv'), '--frames', str(files / 'frames'),
                       '--label-map', str(files / 'map.pbtxt'), '--clip', '4', '2',
                       '--timestamp-start', start, '--timestamp-end', end,
                       '--fps', fps, *options])
        except SystemExit as stop:
            status = stop.code
        shown = capsys.readouterr()
        call.progress = shown.err
        return status, shown.out.replace(f'{files}/', '').splitlines()
    return call


def test_a_good_set_gets_a_summary_and_its_arguments(run, files):
    status, lines = run('--exclude', str(files / 'excluded.csv'))
    assert status == 0
    assert lines[:4] == ['1 videos, 2 keyframes (clips), 2 boxes, 3 labels',
                         'labels by class:', '     1 run' + ' ' * 28 + '1',
                         '     2 sit' + ' ' * 28 + '2']
    given = eval(','.join(lines[4:]).replace(',,', ','))  # noqa: S307 (our own output)
    assert given[0] == dict(
        type='CheckedAVADataset', ann_file='ann.csv', exclude_file='excluded.csv',
        label_file='map.pbtxt', data_prefix=dict(img='frames'), num_classes=3, fps=10,
        timestamp_start=0, timestamp_end=4, filename_tmpl='img_{:05}.jpg',
        start_index=1)
    assert given[1] == dict(
        type='CheckedAVAMetric', ann_file='ann.csv', exclude_file='excluded.csv',
        label_file='map.pbtxt', num_classes=3)
    assert '4/4' in run.progress and '2/2' in run.progress


@pytest.mark.parametrize('row, message', [
    ('v1,0001,0.1,0.2,0.5,0.6,0,0', 'has label 0, must count from 1'),
    ('v1,0001,0.1,0.2,0.5,0.6,3,0', 'has label 3, must be 1 to 2, as num_classes=3'),
    ('v1,0001,10,20,50,60,1,0', 'has box 10,20,50,60 in pixels'),
    ('v1,0001,0.5,0.5,0.2,0.3,1,0', 'with x2 <= x1 or y2 <= y1'),
    ('v1,0001,0.1,0.2,0.5,0.6,1,0', 'repeats line 1; delete it'),
    ('v1,0009,0.1,0.2,0.5,0.6,1,0', 'has timestamp 9, but the video is taken to run'),
    ('v3,0001,0.1,0.2,0.5,0.6,1,0', 'has video v3, but there is no folder frames/v3'),
    ('', 'is blank; delete it')])
def test_faults_of_lines(run, files, row, message):
    (files / 'ann.csv').write_text('\n'.join([*ROWS, row, 'v1,x']) + '\n')
    status, lines = run()
    assert status == 1
    assert any(line.startswith('error: ann.csv line 5 ') and message in line
               for line in lines)


def test_a_fault_that_is_everywhere_is_told_once(run, files):
    (files / 'ann.csv').write_text('\n'.join(row[:-3] + '0,0' for row in ROWS))
    status, lines = run()
    assert status == 1 and len(lines) == 1
    assert lines[0].startswith('error: ann.csv line 1 has label 0')
    assert lines[0].endswith(' (3 more)')


def test_timestamps_of_the_defaults(run):
    status, lines = run(start='900', end='1800')
    assert status == 1
    assert lines == ["error: ann.csv line 1 has timestamp 1, but the video is taken to "
                     'run from 900 to 1800; set timestamp_start and timestamp_end of '
                     "the dataset to your videos' (AVA's 900 and 1800 are the "
                     'defaults); those outside run from 1 to 3 (3 more)']


@pytest.mark.parametrize('spoil, message', [
    (lambda text: text.replace('  name', 'name'), 'is not read by mmaction2'),
    (lambda text: text.replace('id: 1', 'id: 0'), 'must count from 1'),
    (lambda text: '', 'map.pbtxt has no classes')])
def test_faults_of_label_maps(run, files, spoil, message):
    (files / 'map.pbtxt').write_text(spoil(MAP))
    status, lines = run()
    assert status == 1 and message in lines[0]


def test_classes(run, files):
    assert 'num_classes is 2; set it to 3' in run('--num-classes', '2')[1][0]
    (files / 'map.pbtxt').write_text(MAP.replace('id: 2', 'id: 3'))
    status, lines = run()
    assert status == 0
    assert 'warning: ann.csv line 2 has label 2, which ' in lines[0]
    assert 'warning: map.pbtxt has class 3 (sit), of which there is no box' in lines[1]


def test_nearly_equal_boxes(run, files):
    (files / 'ann.csv').write_text('\n'.join([*ROWS, 'v1,0001,0.1,0.2,0.5,0.61,1,0']))
    status, lines = run()
    assert status == 0
    assert 'warning: ann.csv line 5 has nearly the box of line 1; give all' in lines[0]


@pytest.mark.parametrize('text, status, message', [
    ('v1,0009\n', 0, 'warning: excluded.csv names no keyframe of ann.csv'),
    ('v1,0001\nv1,0003\nv2,0002\n', 1, 'error: excluded.csv names every keyframe'),
    ('v1,0001\n\n', 1, 'error: excluded.csv line 2 is blank')])
def test_excluded_lists(run, files, text, status, message):
    (files / 'excluded.csv').write_text(text)
    found, lines = run('--exclude', str(files / 'excluded.csv'))
    assert found == status and lines[0].startswith(message)


def remove(folder, numbers):
    for number in numbers:
        (folder / f'img_{number:05}.jpg').unlink()


def test_frames_that_do_not_fit(run, files):
    status, lines = run(fps='15')
    assert status == 1 and any(
        'holds 40 frames for the 4 seconds from 0 to 4, which are 10 a second, but fps '
        'is 15; set fps=10' in line for line in lines)
    assert any('wants img_00042.jpg of video v1, which is missing from its folder of '
               'img_00001.jpg to img_00040.jpg' in line for line in lines)
    remove(files / 'frames/v1', [31])
    status, lines = run()
    assert status == 1
    assert any(line.startswith('error: ann.csv line 3 wants img_00031.jpg of video v1')
               for line in lines)
    assert any('holds 39 files from img_00001.jpg on, with gaps' in line
               for line in lines)


def test_videos_of_different_length(run, files):
    remove(files / 'frames/v2', range(31, 41))
    status, lines = run()
    assert status == 0
    assert 'warning: frames/v2 holds 30 frames where others hold 40; videos' in lines[0]
    assert '     count_frames=True)' in lines


def test_frames_of_other_names_and_empty_ones(run, files):
    status, lines = run('--filename-tmpl', 'img_{:06}.jpg', '--start-index', '0')
    assert status == 1
    assert any("set filename_tmpl='img_{:05}.jpg' and start_index=1" in line
               for line in lines)
    (files / 'frames/v2/img_00021.jpg').write_bytes(b'')
    assert 'which is empty (0 bytes)' in run()[1][0]


@pytest.mark.parametrize('names, expected', [
    (['img_00001.jpg', 'img_00002.jpg'], ('img_{:05}.jpg', 1, 2, False)),
    (['0.png', '1.png', '3.png'], ('{}.png', 0, 3, True)),
    ([f'{n}.jpg' for n in range(5, 12)], ('{}.jpg', 5, 7, False)),
    ([f'f{n:02}.jpg' for n in (98, 99, 100)] + ['x.txt'], ('f{:02}.jpg', 98, 3, False)),
    (['readme.txt'], None)])
def test_names_of_frames(names, expected):
    found = numbering(names)
    assert (None if found is None else tuple(found)) == expected
    if found:
        assert found.template.format(found.first) in names


def test_mistakes(run, files, tool, capsys):
    for options, message in ((['--exclude', 'none.csv'], 'none.csv not found'),
                             (['--fps', '0'], '--fps 0 must be at least 1')):
        with pytest.raises(SystemExit, match='2'):
            tool.main([str(files / 'ann.csv'), *options])
        assert message in capsys.readouterr().err


def test_many_lines_take_seconds(tool, tmp_path, capsys):
    path = tmp_path / 'ann.csv'
    path.write_text(''.join(
        f'v{n // 2000},{900 + n % 800:04d},0.1,0.2,0.5,0.{6 + n // 800 % 3},'
        f'{n % 80},0\n' for n in range(100_000)))
    start = time.monotonic()
    with pytest.raises(SystemExit, match='1'):
        tool.main([str(path)])
    assert time.monotonic() - start < 20
    assert 'line 1 has label 0' in capsys.readouterr().out
