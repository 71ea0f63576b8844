# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Still and moving pictures of what a model kept."""
import cv2
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from PIL import Image, ImageSequence

from mmaction_tokenreduce.visualization import (
    KeptRegions,
    ScoreMaps,
    SelectionRow,
    play_selection,
    plot_selection,
)
from mmaction_tokenreduce.visualization.drawing import DIMMED, KEPT_COLOR

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


@pytest.fixture
def figures(monkeypatch):
    """The figures of the pictures that are written, one a picture."""
    saved, save = [], Figure.savefig
    monkeypatch.setattr(Figure, 'savefig', lambda figure, *args, **kwargs: (
        saved.append(figure), save(figure, *args, **kwargs))[-1])
    return saved


def captions(figure):
    """The text below frames, and where it stands: (left, bottom, right, top) pixels."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    return [(text, text.get_window_extent(renderer).extents)
            for ax in figure.axes for text in ax.texts]


def overlap(one, other):
    return (one[0] < other[2] and other[0] < one[2]
            and one[1] < other[3] and other[1] < one[3])


@pytest.mark.parametrize('frames', [4, 8])
@pytest.mark.parametrize('selectors', [1, 2, 3, 5])
def test_scores_stand_below_their_frames(tmp_path, figures, frames, selectors):
    """However many selectors ranked them, no caption is on another or on a map."""
    scores = [[round(1 - t / 9 - n / 100, 2) for t in range(frames)]
              for n in range(selectors)]
    for later in scores[1:]:
        later[1] = float('nan')  # gone after the first
    maps = ScoreMaps({t: np.eye(3) for t in range(frames)},
                     {t: [(0, 0)] for t in range(frames)}, 'anchor')
    kept = regions([0], [[0, 0, 1, 1]], frames, scores=scores, maps=[maps])
    plot_selection([SelectionRow(grey(frames), kept, 'clip')], tmp_path / 'kept.png')
    (figure, ), found = figures, []
    drawn = captions(figure)
    boxes = [ax.get_window_extent().extents for ax in figure.axes]
    for number, (text, box) in enumerate(drawn):
        others = [other for _, other in drawn[:number]] + boxes
        assert not any(overlap(box, other) for other in others), text
        assert box[0] >= 0 and box[2] <= figure.bbox.x1
        assert to_hex(text.get_color()) == (
            KEPT_COLOR if text.axes is figure.axes[0] else to_hex('0.45'))
        found.append(' '.join(text.get_text().split()))
    expected = []
    for t in range(frames):
        shown = [f'{row[t]:.2f}' for row in scores if row[t] == row[t]]
        expected += [f'#{t}', 'score ' + ', '.join(shown)]
    assert found == expected


def test_frames_that_nothing_ranked_have_no_score(tmp_path, figures):
    kept = regions([0], [[0, 0, 1, 1]], 2)
    plot_selection([SelectionRow(grey(2), kept, 'clip')], tmp_path / 'kept.png')
    texts = [text.get_text() for text, _ in captions(figures[0])]
    assert list(filter(None, texts)) == ['#0', '#1']


@pytest.mark.parametrize('unit', ['anchor', 'token'])
def test_score_maps_stand_below_the_frames_they_rank(tmp_path, figures, unit):
    maps = [ScoreMaps({0: np.array([[0., 1.], [.5, .25]])}, {0: [(0, 1)]}, unit),
            ScoreMaps({0: np.eye(3), 2: np.ones((3, 3))}, {0: [(0, 0)], 2: [(1, 2)]},
                      unit)]
    kept = regions([0, 2], [[0, 0, 1, 1]] * 2, 3, maps=maps)
    plot_selection([SelectionRow(grey(3), kept, 'clip')], tmp_path / 'kept.png')
    frames, ranked = [], {}
    for ax in figures[0].axes:
        (image, ), box = ax.images, ax.get_position()
        if image.get_array().ndim == 3:
            frames.append(box)
            continue
        t = next(t for t, frame in enumerate(frames) if frame.x0 < box.x0 < frame.x1)
        assert box.y1 < frames[t].y0 and image.get_clim() == (0, 1)
        framed = [tuple(np.add(patch.get_xy(), 0.5)[::-1]) for patch in ax.patches]
        ranked.setdefault(t, []).append((image.get_array(), framed))
    assert len(frames) == 3 and sorted(ranked) == [0, 2]
    for t, expected in ((0, maps), (2, maps[1:])):
        for (scores, framed), ranking in zip(ranked[t], expected, strict=True):
            np.testing.assert_array_equal(scores, ranking.scores[t])
            assert framed == (ranking.chosen[t] if unit == 'anchor' else [])


@pytest.mark.parametrize('scores, expected', [
    ([[0.25, 1.0, float('nan'), 0.5]], [0.25, 1, 0.04, 0.5]),
    ([[0.8, 0.4, 0.6, 0.0], [1.0, float('nan'), 0.0, 1.0]], [0.8, 0.4, 0.6, 0.04]),
    ([], [1, 1, 1, 1])], ids=['one', 'the first of two', 'none'])
def test_bars_of_the_moving_picture_are_as_high_as_the_scores(tmp_path, scores,
                                                              expected):
    """Frame 1 is kept; of 320 pixels each of four bars has 80, 42 of height 1."""
    kept = regions([1], [[0, 0, 1, 1]], 4, scores=scores)
    play_selection(grey(4), kept, tmp_path / 'a.gif')
    with Image.open(tmp_path / 'a.gif') as moving:
        shots = [np.array(shot.convert('RGB')).astype(int)
                 for shot in ImageSequence.Iterator(moving)]
    for shot in shots:
        for t, height in enumerate(expected):
            color = np.array(to_rgb(KEPT_COLOR if t == 1 else '0.6')) * 255
            column = shot[-12 - 44:-12, 12 + 40 + 80 * t]  # through its middle
            found = (np.abs(column - color).max(axis=1) <= 8).sum()
            assert found == pytest.approx(height * 42, abs=1.5)


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
