# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Pictures of sampled points."""
import cv2
import numpy as np
import pytest
from matplotlib.axes import Axes

from mmaction_tokenreduce.visualization import PointRow, SampledPoints, plot_points

IMAGES = np.full((6, 80, 100, 3), 120, np.uint8)


def points(xy, weight, frames=(2, 3), kind='D-ST-A', frame=3):
    """Of one head, around a query at x 50, y 40."""
    xy, weight = np.array([xy], float), np.array([weight], float)
    return SampledPoints(kind, frame, np.array([50., 40.]), (8, 8), frames,
                         ((8, 8), ) * len(frames), xy, weight,
                         (xy[..., 0] < -8) | (xy[..., 0] >= 100))


FAR = points([[[10, 12], [70, 60]], [[90, 70], [40, 20]]], [[0.7, 0.1], [0.15, 0.05]])
NEAR = points([[[48, 38], [52, 41]], [[47, 42], [53, 43]]], [[0.4, 0.1], [0.2, 0.3]])
SCALES = points([[[20, 30], [70, 60]], [[90, 70], [40, 20]]], [[0.2, 0.3], [0.1, 0.4]],
                (3, 3), 'D-MS-A')


class Scattered:
    """Keeps what is scattered, and the words that are written."""

    def __init__(self, monkeypatch):
        self.calls, self.words = [], []
        scatter, text = Axes.scatter, Axes.text

        def seen(ax, x, y, **style):
            scale = style['norm'](style['c'])
            self.calls.append((ax, np.stack((x, y), -1), scale, style['marker']))
            return scatter(ax, x, y, **style)

        def written(ax, x, y, words, **style):
            self.words.append(words.replace('\n', ' '))
            return text(ax, x, y, words, **style)

        monkeypatch.setattr(Axes, 'scatter', seen)
        monkeypatch.setattr(Axes, 'text', written)


def test_places_and_colours(tmp_path, monkeypatch):
    """Blue is no weight, white an equal share, a quarter here, red the largest, 2.8
    times that; the heaviest point is drawn last."""
    drawn = Scattered(monkeypatch)
    plot_points(IMAGES, [PointRow('one', [FAR])], tmp_path / 'a.png', 'heading')
    (_, first, first_scale, _), (_, second, second_scale, _) = drawn.calls
    assert first.tolist() == [[70, 60], [10, 12]]
    np.testing.assert_allclose(first_scale, [0.2, 1])
    assert second.tolist() == [[40, 20], [90, 70]]
    np.testing.assert_allclose(second_scale, [0.1, 0.3])
    assert drawn.words == ['#2: 80% of weight', '#3 (query): 20% of weight']
    picture = cv2.imread(str(tmp_path / 'a.png')).astype(int)
    red = (picture[..., 2] > 240) & (picture[..., :2].max(-1) < 20)
    assert red.sum() > 30
    assert [path.name for path in tmp_path.iterdir()] == ['a.png']


def test_maps_of_the_own_frame(tmp_path, monkeypatch):
    drawn = Scattered(monkeypatch)
    plot_points(IMAGES, [PointRow('both', [FAR, SCALES])], tmp_path / 'a.png')
    assert [marker for *_, marker in drawn.calls] == ['o', 'o', 'o', 's']
    assert drawn.calls[2][0] is drawn.calls[3][0]  # one frame
    assert drawn.calls[3][1].tolist() == [[90, 70], [40, 20]]
    assert drawn.words[-1] == '#3 D-MS-A: 50% own, 50% convolved'


def test_points_close_together_are_drawn_larger(tmp_path, monkeypatch):
    drawn = Scattered(monkeypatch)
    plot_points(IMAGES, [PointRow('near', [NEAR]), PointRow('far', [FAR])],
                tmp_path / 'a.png')
    near, far = (drawn.calls[i][0].get_xlim() for i in (0, 2))
    assert far == (-0.5, 99.5)
    # The query's patch reaches from 46 to 54; a tenth of its side is around it.
    np.testing.assert_allclose(near, (50 - 4.8, 50 + 4.8))
    parent = drawn.calls[0][0].get_position().bounds
    assert parent[2] < 0.25 * drawn.calls[2][0].get_position().width * 2


def test_points_beside_the_frame(tmp_path, monkeypatch):
    drawn = Scattered(monkeypatch)
    beside = points([[[-9, 40], [60, 40]], [[110, 85], [400, 40]]], [[0.25] * 2] * 2)
    plot_points(IMAGES, [PointRow('one', [beside])], tmp_path / 'a.png')
    # Four pixels more than the outermost point, at most a fifth of the longer side.
    assert drawn.calls[0][0].get_xlim() == (-13, 99.5 + 20)
    assert drawn.calls[0][0].get_ylim() == (89, -0.5)
    assert drawn.words == ['#2: 50% of weight, 1 outside',
                           '#3 (query): 50% of weight, 2 outside']


@pytest.mark.parametrize('frames, lines', [(3, 1), (12, 2)])
def test_lines_of_frames(tmp_path, frames, lines):
    xy = np.random.RandomState(0).uniform(0, 80, (frames, 2, 2))
    part = points(xy, np.full((frames, 2), 0.5 / frames), tuple(range(frames)))
    heights = []
    for rows in (1, 2):
        plot_points(IMAGES[:1].repeat(12, 0), [PointRow('row', [part])] * rows,
                    tmp_path / 'a.png')
        picture = cv2.imread(str(tmp_path / 'a.png'))
        heights.append(len(picture))
    frame = 0.25 * 120 + 0.75 * 120
    assert frame == 120
    grey = (np.abs(picture.astype(int) - (0.75 * 120 + 0.25 * 255)) < 2).all(-1)
    starts = np.diff((grey.sum(1) > 0.5 * grey.shape[1]).astype(int)) == 1
    assert starts.sum() >= 2 * lines
    assert heights[1] > heights[0] + 100 * lines


def test_mistakes(tmp_path):
    with pytest.raises(ValueError, match='plot_points needs at least one row'):
        plot_points(IMAGES, [], tmp_path / 'a.png')
    with pytest.raises(ValueError, match='3 images: token frame 3 is sampled'):
        plot_points(IMAGES[:3], [PointRow('', [FAR])], tmp_path / 'a.png')
    assert not list(tmp_path.iterdir())
