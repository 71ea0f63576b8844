# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Still and moving pictures of what a model kept."""
import cv2
import numpy as np
import pytest
from PIL import Image, ImageSequence

from mmaction_tokenreduce.visualization import (
    KeptRegions,
    ScoreMaps,
    SelectionRow,
    play_selection,
    plot_selection,
)
from mmaction_tokenreduce.visualization.drawing import DIMMED

LEVEL = 200  # brightness of what is drawn
DARK = round(LEVEL * DIMMED)


def regions(frames, boxes, num_frames, **extra):
    """One rectangle of each kept frame."""
    return KeptRegions(frames, np.array(boxes, float)[:, None, None], num_frames,
                       **extra)


def grey(count, height=32, width=32):
    return np.full((count, height, width, 3), LEVEL, np.uint8)


def area_of(picture, level):
    """Pixels of a grey level, give or take the colour maps of GIFs and rounding."""
    return int((np.abs(picture.astype(int) - level).max(axis=-1) <= 3).sum())


def test_picture_darkens_what_was_dropped(tmp_path):
    kept = regions([1], [[0.0, 0.0, 0.5, 1.0]], 2, scores=[[0.1, 0.9]])
    path = tmp_path / 'folder' / 'kept.png'
    row = SelectionRow(grey(2), kept, 'a clip', [None, [0.2, 0.2, 0.4, 0.4]])
    plot_selection([row], path, 'heading')
    picture = cv2.imread(str(path))
    bright, dark = area_of(picture, LEVEL), area_of(picture, DARK)
    assert 2.5 < dark / bright < 4.2  # three halves of a frame dark, one bright
    assert [p.name for p in path.parent.iterdir()] == ['kept.png']


def test_scattered_tokens_are_bright_one_by_one(tmp_path):
    """A quarter of the places, in a chequered pattern: no frame around them."""
    low = np.stack(np.meshgrid([0, 0.5], [0, 0.5], indexing='ij'), -1)
    kept = KeptRegions([0], np.concatenate((low, low + 0.25), -1)[None], 1)
    plot_selection([SelectionRow(grey(1), kept, 'clip')], tmp_path / 'kept.png')
    picture = cv2.imread(str(tmp_path / 'kept.png')).astype(int)
    assert area_of(picture, DARK) / area_of(picture, LEVEL) == pytest.approx(3, rel=0.1)
    green = (picture[..., 1] > picture[..., 0] + 60).sum()
    assert green < 2000  # the captions alone


@pytest.mark.parametrize('frames, lines, columns', [(3, 1, 3), (8, 1, 8), (16, 2, 8),
                                                    (10, 2, 5)])
def test_long_clips_go_on_in_further_lines(tmp_path, frames, lines, columns):
    """With the small map of a spatial selector, on frames that are not square."""
    maps = ScoreMaps({0: np.eye(3)}, {0: [(0, 0)]}, 'anchor')
    kept = regions([0], [[0, 0, 1, 1]], frames, maps=[maps])
    plot_selection([SelectionRow(grey(frames, 20, 40), kept, 'clip ' * 60)],
                   tmp_path / 'kept.png')
    picture = cv2.imread(str(tmp_path / 'kept.png')).astype(int)
    # rows and columns of pixels that hold something dark of a dropped frame
    dark = (np.abs(picture - DARK).max(axis=-1) <= 1)
    # blocks longer than the letters of the captions, which the legend's patch is not
    assert _blocks(dark.sum(axis=1) > 60) == lines
    assert _blocks(dark.sum(axis=0) > 40) == columns - (lines == 1)  # the first is kept


def _blocks(flags):
    """Runs of True that are at least 20 long."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(int), [0]))))
    return int((edges[1::2] - edges[::2] >= 20).sum())


def test_moving_picture(tmp_path):
    """Two token frames, three sampled frames each; the first is dropped."""
    kept = regions([1], [[0.0, 0.5, 1.0, 1.0]], 2, scores=[[0.2, 0.9]])
    path = tmp_path / 'new' / 'kept.gif'
    play_selection(grey(6), kept, path, 'a clip ' * 20, fps=5)
    with Image.open(path) as moving:
        assert moving.info['loop'] == 0  # for ever
        shots = [np.array(frame.convert('RGB'))
                 for frame in ImageSequence.Iterator(moving)]
        assert moving.info['duration'] == 200
    assert len(shots) == 6 and [p.name for p in path.parent.iterdir()] == ['kept.gif']
    frame = (80 * 4) ** 2
    for number, shot in enumerate(shots):
        share = area_of(shot, LEVEL) / frame, area_of(shot, DARK) / frame
        expected = (0, 1) if number < 3 else (0.5, 0.5)
        assert share == pytest.approx(expected, abs=0.05)


def test_pictures_that_cannot_be_drawn(tmp_path):
    with pytest.raises(ValueError, match='at least one row'):
        plot_selection([], tmp_path / 'a.png')
    kept = regions([0], [[0, 0, 1, 1]], 2)
    row = SelectionRow(grey(3), kept, 'clip 7')
    with pytest.raises(ValueError, match='clip 7: 3 images for 2 token frames'):
        plot_selection([row], tmp_path / 'a.png')
    with pytest.raises(ValueError, match='abc'):
        plot_selection([SelectionRow(grey(2), kept, 'clip')], tmp_path / 'a.abc')
    with pytest.raises(ValueError, match='1 images for 2 token frames'):
        play_selection(grey(1), kept, tmp_path / 'a.gif')
    with pytest.raises(ValueError, match='a.png: the moving picture is a .gif'):
        play_selection(grey(2), kept, tmp_path / 'a.png')
    assert not list(tmp_path.iterdir())
