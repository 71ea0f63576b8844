# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""The benchmark of displacement fields: what it measures, and its tables."""
import runpy
from types import SimpleNamespace

import numpy as np
import pytest

from mmaction_tokenreduce.datasets.moving_square import MovingSquare, encode


@pytest.fixture
def tool(repo_dir, monkeypatch):
    monkeypatch.syspath_prepend(str(repo_dir / 'tools'))
    path = repo_dir / 'tools' / 'benchmark_motion.py'
    return SimpleNamespace(**runpy.run_path(str(path)))


def numbers(cell):
    return [float(word.strip(',()')) for word in cell.split()]


def test_the_square_is_where_it_is_said_to_be():
    video = MovingSquare((4, -2), frames=6)
    for before in (0, 2):
        (left, top), (x, y) = video.corners[[5, before]].astype(int)
        square = [video.frames[at, row + 1:row + 47, column + 1:column + 47]
                  for at, row, column in ((5, top, left), (before, y, x))]
        np.testing.assert_array_equal(*square)
    truth = np.array([-20, 10])
    errors = video.errors(np.broadcast_to(truth, (30, 50, 2)), 5, 0)
    # cells' centres from 42 to 82 and from 46 to 90, every 4 px
    assert len(errors) == 11 * 12 and not errors.any()
    assert video.errors(np.zeros((30, 50, 2)), 5, 0) == pytest.approx(
        np.hypot(20, 10))


def test_the_rest_with_motion_and_without(tool):
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 256, (16, 40, 3), np.uint8)
    imgs = [wide[:, :32], wide[:, 4:36], wide[:, 8:]]  # moves 4 px to the left
    fields = np.zeros((3, 4, 8, 2), np.float32)
    fields[1:] = (4, 0)
    still, moved = tool.rest(imgs, fields)
    steps = [np.abs(one.astype(float) - two) for one, two in zip(imgs, imgs[1:],
                                                                 strict=False)]
    assert still == pytest.approx(np.mean(steps), rel=1e-5)
    # what came in at the right edge is predicted by the last column
    edges = [np.abs(new[:, 28:].astype(float) - old[:, 31:]).sum() / new.size
             for old, new in zip(imgs, imgs[1:], strict=False)]
    assert moved == pytest.approx(np.mean(edges), rel=1e-3)


def test_both_tables(tool, tmp_path, capsys):
    video = MovingSquare((3, 1), frames=12, size=64)
    paths = [encode(tmp_path / 'b.mp4', video.frames),
             encode(tmp_path / 'none.webm', video.frames, 'libvpx-vp9')]
    tool.main([*paths, '--encodings', 'mpeg4_b', '--intervals', '1', '3'])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ['| codec | whole pixels | fractions |', '| --- | --- | --- |']
    _, title, *cells, _ = lines[2].split('|')
    assert title.strip() == 'MPEG-4, 2 B-frames'
    whole, fractions = map(numbers, cells)
    # its P-frames find no motion of 12 px, so that 4 px a frame are missed
    assert whole == pytest.approx([4, 8, 16, 28, 48], abs=0.5)
    assert len(fractions) == 5 and max(fractions) < 1.5
    assert lines[3:6] == ['', '| video | every frame | every 3 frames |',
                          '| --- | --- | --- |']
    _, name, *cells, _ = lines[6].split('|')
    assert name.startswith(' `b.mp4` (h264, ') and 'B-frames)' in name
    for still, moved, flow in map(numbers, cells):
        assert 0 < moved < 0.8 * still and flow < still
    _, name, *cells, _ = lines[7].split('|')
    assert name == ' `none.webm` (vp9, no vectors) '
    for still, moved, flow in map(numbers, cells):
        assert moved == still and flow < still
    tool.main(['--encodings', 'h264_b'])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert max(max(numbers(cell)) for cell in lines[2].split('|')[2:4]) < 0.5


@pytest.mark.parametrize('options,message', [
    (['{gone}'], 'gone.mp4 cannot be read: no such file'),
    (['{video}', '--intervals', '0'], '--intervals takes numbers of at least 1'),
    (['{video}', '--intervals', '1', '4'],
     'video.mp4 has 4 frames; an interval of 4 needs at least 5'),
    (['--encodings', 'vp9'], "invalid choice: 'vp9'"),
])
def test_mistakes(tool, tmp_path, capsys, options, message):
    path = encode(tmp_path / 'video.mp4', MovingSquare((1, 0), frames=4).frames)
    words = dict(gone=tmp_path / 'gone.mp4', video=path)
    with pytest.raises(SystemExit) as stop:
        tool.main([word.format(**words) for word in options])
    written = capsys.readouterr()
    assert stop.value.code == 2 and message in written.err and not written.out
