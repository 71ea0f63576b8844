# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Re-encoding a folder, and the benchmark of decoding."""
import json
import runpy
from fractions import Fraction

import av
import numpy as np
import pytest

from mmaction_tokenreduce.datasets.motion_stream import MotionReader
from mmaction_tokenreduce.datasets.moving_square import MovingSquare, encode


@pytest.fixture
def main(repo_dir):
    return runpy.run_path(str(repo_dir / 'tools/data/transcode_h264.py'))['main']


@pytest.fixture
def folder(tmp_path):
    source, frames = tmp_path / 'source', MovingSquare((2, 1), frames=24).frames
    (source / 'a b').mkdir(parents=True)
    encode(source / 'a b' / 'one.webm', frames, 'libvpx-vp9')
    encode(source / 'two.avi', frames[:, :119, :199], 'mpeg4', bf=2)
    (source / 'notes.txt').write_text('no video')
    return source


def run(main, *arguments):
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return stop.code
    return 0


def test_a_folder_becomes_h264_with_one_reference(main, folder, tmp_path, capsys):
    target = tmp_path / 'target'
    assert run(main, folder, target, '--workers', 2, '--crf', 20) == 0
    assert 'target: 2 videos written, 0 were there, 0 failed' in capsys.readouterr().out
    files = sorted(path.relative_to(target).as_posix() for path in target.rglob('*.*'))
    assert files == ['a b/one.mp4', 'transcode_h264.json', 'two.mp4']
    for new, old in (('a b/one.mp4', 'a b/one.webm'), ('two.mp4', 'two.avi')):
        reader = MotionReader(str(target / new))
        before = MotionReader(str(folder / old))
        assert reader.codec == 'h264' and reader.total_frames == before.total_frames
        read = reader.read(np.arange(0, 24, 4), 6)
        assert read.flags['references'] == 1 and read.flags['b_frames'] == 0
        assert not read.flags['no_vectors'] and read.fields.any()
        image = before.read(np.array([12]), 1).imgs[0]
        height, width = read.imgs[0].shape[:2]
        assert abs(height - image.shape[0]) <= 1 and abs(width - image.shape[1]) <= 1
        some = np.s_[:100, :180]
        if image.shape == read.imgs[3].shape:
            assert np.abs(read.imgs[3][some].astype(int) - image[some]).mean() < 8


def test_times_of_frames_stay(main, tmp_path):
    source = tmp_path / 'source'
    source.mkdir()
    with av.open(str(source / 'v.mkv'), 'w') as container:
        stream = container.add_stream('libx264', rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
        for number, time in enumerate([0, 40, 120, 130, 400]):  # ms
            frame = av.VideoFrame.from_ndarray(
                np.full((48, 64, 3), 40 * number, np.uint8), 'rgb24')
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert run(main, source, tmp_path / 'target') == 0
    with av.open(str(source / 'v.mkv')) as one:
        expected = [frame.time for frame in one.decode(video=0)]
    with av.open(str(tmp_path / 'target' / 'v.mp4')) as other:
        found = [frame.time for frame in other.decode(video=0)]
    np.testing.assert_allclose(found, expected, atol=0.002)


def test_a_second_run_keeps_what_is_there(main, folder, tmp_path, capsys):
    target = tmp_path / 'target'
    assert run(main, folder, target, '--workers', 1) == 0
    before = (target / 'two.mp4').stat().st_mtime_ns
    (target / 'a b' / 'one.mp4').unlink()
    assert run(main, folder, target, '--workers', 1) == 0
    assert '1 videos written, 1 were there' in capsys.readouterr().out.splitlines()[-1]
    assert (target / 'two.mp4').stat().st_mtime_ns == before
    assert run(main, folder, target, '--crf', 30) == 2
    assert 'notes other settings' in capsys.readouterr().err


def test_failures_are_listed_and_leave_nothing(main, folder, tmp_path, capsys):
    target = tmp_path / 'target'
    (folder / 'bad.mp4').write_bytes(b'\1\2\3' * 999)
    (folder / 'empty.mkv').write_bytes(b'')
    assert run(main, folder, target) == 1
    streams = capsys.readouterr()
    assert '2 videos written, 0 were there, 2 failed' in streams.out
    assert 'bad.mp4: Invalid data found' in streams.err
    assert 'empty.mkv: the file is empty' in streams.err
    assert sorted(path.name for path in target.rglob('*.mp4')) == ['one.mp4', 'two.mp4']
    assert not [path for path in target.rglob('.*')]


def test_short_side(main, folder, tmp_path):
    assert run(main, folder, tmp_path / 'target', '--short-side', 64) == 0
    with av.open(str(tmp_path / 'target' / 'two.mp4')) as container:
        stream = container.streams.video[0]
        assert (stream.height, stream.width) == (64, 108)


def test_lists_name_the_new_files(main, folder, tmp_path):
    text = 'a b/one.webm 3\ntwo.avi,1\n\nx.AVI 2 5\nno_suffix 4\n'
    (tmp_path / 'train.txt').write_text(text)
    target = tmp_path / 'target'
    assert run(main, folder, target, '--list', tmp_path / 'train.txt') == 0
    assert (target / 'train.txt').read_text() == (
        'a b/one.mp4 3\ntwo.mp4,1\n\nx.mp4 2 5\nno_suffix 4\n')
    assert (tmp_path / 'train.txt').read_text() == text


@pytest.mark.parametrize('arguments,message', [
    (['{gone}', '{target}'], 'gone is no folder'),
    (['{source}', '{source}/in'], 'overlap'),
    (['{source}', '{target}', '--crf', '60'], 'crf is 60; allowed is 0 to 51'),
    (['{source}', '{target}', '--gop', '0'], 'gop is 0'),
    (['{source}', '{target}', '--short-side', '3'], 'short_side is 3'),
    (['{source}', '{target}', '--workers', '0'], 'workers is 0'),
    (['{source}', '{target}', '--list', '{gone}'], 'annotation list'),
    (['{target}', '{gone}'], 'has no videos')])
def test_mistakes(main, folder, tmp_path, capsys, arguments, message):
    (tmp_path / 'target').mkdir()
    names = dict(gone=tmp_path / 'gone', target=tmp_path / 'target', source=folder)
    assert run(main, *(word.format(**names) for word in arguments)) == 2
    assert message in capsys.readouterr().err


def test_two_videos_of_one_name(main, folder, tmp_path, capsys):
    (folder / 'two.mkv').write_bytes((folder / 'two.avi').read_bytes())
    assert run(main, folder, tmp_path / 'target') == 2
    assert 'two.avi and two.mkv' in capsys.readouterr().err


def test_the_decoding_benchmark(repo_dir, folder, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(repo_dir / 'tools'))
    tool = runpy.run_path(str(repo_dir / 'tools/benchmark_decode.py'))
    path = str(folder / 'two.avi')
    tool['main']([path, '--turns', '1', '--transcode', '--json'])
    row = json.loads(capsys.readouterr().out)[path]
    assert row['ratio'] == pytest.approx(row['fields'] / row['alone'])
    assert row['codec'] == 'h264' and row['references'] == 1 and not row['b_frames']
    assert row['frames'] == 24
    tool['main']([path, '--turns', '1'])
    assert 'two.avi: alone' in capsys.readouterr().out
    for arguments in ([str(folder / 'gone.mp4')], [path, '--turns', '0']):
        with pytest.raises(SystemExit) as stop:
            tool['main'](arguments)
        assert stop.value.code == 2
