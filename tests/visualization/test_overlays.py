# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Still and moving pictures of merged tokens and of attention."""
import cv2
import numpy as np
import pytest
from PIL import Image

from mmaction_tokenreduce.visualization import (
    HeatOverlay,
    MergedTokens,
    MergeOverlay,
    play_overlays,
    plot_overlays,
)
from mmaction_tokenreduce.visualization.drawing import DIMMED
from mmaction_tokenreduce.visualization.overlays import FAINT, OPAQUE

IMAGE = np.full((6, 8, 3), 200, np.uint8)
GREY = 200 / 255


def merged(tokens, meta):
    """Tokens (T, H, W) with equal weights on their patches."""
    tokens = np.array(tokens)
    weight = np.stack([tokens == k for k in range(len(meta))]).astype(float)
    return MergedTokens(weight / weight.sum((1, 2, 3), keepdims=True), tokens,
                        np.array(meta))


TOKENS = merged([[[0, 0, 1, 2], [0, 1, 1, -1]], [[1, 1, 0, 2], [1, 2, 2, 2]]],
                [(0, 0, 0), (1, 0, 1), (0, 0, 3)])


def test_a_token_has_one_colour_in_all_frames():
    overlay = MergeOverlay(TOKENS, num_shown=2)
    assert overlay.shown.tolist() == [1, 2]  # 6, 5 and 4 patches
    first, second = (overlay.paint(IMAGE, t) for t in range(2))
    for token, color in zip((1, 2), overlay.colors, strict=True):
        painted = (1 - OPAQUE) * GREY + OPAQUE * color
        np.testing.assert_allclose(first[0, 4 if token == 1 else 6], painted)
        np.testing.assert_allclose(second[0 if token == 1 else 5, 0 if token == 1
                                          else 7], painted)
    np.testing.assert_allclose(first[0, 0], GREY * FAINT, atol=1e-6)  # token 0
    np.testing.assert_allclose(second[2, 4], GREY * FAINT, atol=1e-6)
    np.testing.assert_allclose(first[5, 7], GREY * FAINT * DIMMED, atol=1e-6)  # none
    labels = [handle.get_label() for handle in overlay.legend()]
    assert labels[-1] == 'dropped before' and len(labels) == 4


@pytest.mark.parametrize('count', [8, 20])
def test_colours_differ_and_none_is_grey(count):
    overlay = MergeOverlay(merged([[list(range(24))]], [(0, 0, k) for k in range(24)]),
                           num_shown=count)
    colors = overlay.colors
    apart = np.abs(colors[:, None] - colors).max(-1) + np.eye(count)
    assert colors.shape == (count, 3) and apart.min() > 0.1
    assert (colors.max(1) - colors.min(1)).min() > 0.3


def test_heat_ends_at_percentiles():
    heat = np.arange(200.).reshape(2, 10, 10)
    heat[1, 9, 9] = 1e6
    overlay = HeatOverlay(heat)
    assert overlay.scaled.min() == 0 and overlay.scaled.max() == 1
    # 1st and 99th percentile of 0, ..., 198 and an outlier: 1.99 and 197.01
    np.testing.assert_allclose(overlay.scaled[1, 0, 0], (100 - 1.99) / (197.01 - 1.99))
    dark, bright = (overlay.paint(np.zeros((20, 20, 3), np.uint8), t).mean()
                    for t in range(2))
    assert bright > 1.5 * dark
    assert HeatOverlay(np.ones((1, 2, 2))).scaled.tolist() == [[[0, 0], [0, 0]]]


@pytest.mark.parametrize('frames, lines', [(2, 1), (10, 2)])
def test_strips(tmp_path, frames, lines):
    """Each overlay is a strip of the frames, in as many lines as they need."""
    tokens = merged(np.zeros((frames, 2, 2), int), [(0, 0, 0)])
    images = np.full((frames, 20, 20, 3), 200, np.uint8)
    overlays = [MergeOverlay(tokens, title='merged'),
                HeatOverlay(np.random.rand(frames, 2, 2), 'heat')]
    path = tmp_path / 'new' / 'a.png'
    heights = []
    for count in (1, 2):
        plot_overlays(images, overlays[:count], path, 'heading')
        picture = cv2.imread(str(path))[..., ::-1] / 255
        heights.append(len(picture))
    color = (1 - OPAQUE) * GREY + OPAQUE * overlays[0].colors[0]
    rows = (np.abs(picture - color).max(-1) < 0.02).sum(1) > 100
    assert int((np.diff(rows.astype(int)) == 1).sum()) >= lines
    assert heights[1] > heights[0] + 100 * lines
    assert [p.name for p in path.parent.iterdir()] == ['a.png']


def test_meta_tokens_are_framed_in_their_frame(tmp_path):
    class Axes:
        patches = []

        def add_patch(self, patch):
            self.patches.append(patch)

    MergeOverlay(TOKENS, num_shown=2).outline(Axes(), 1, 6, 8)
    assert len(Axes.patches) == 2  # a rim and the frame, of token 1 alone
    assert Axes.patches[1].get_bbox().bounds == (1.5, -0.5, 2, 3)


def test_moving_picture(tmp_path):
    """Three sampled frames show each of two token frames."""
    images = np.full((6, 20, 40, 3), 200, np.uint8)
    overlays = [MergeOverlay(TOKENS), HeatOverlay(np.random.rand(2, 2, 4))]
    play_overlays(images, overlays, tmp_path / 'a.gif')
    play_overlays(images, overlays[:1], tmp_path / 'b.gif')
    with Image.open(tmp_path / 'a.gif') as two, Image.open(tmp_path / 'b.gif') as one:
        assert two.n_frames == one.n_frames == 6
        assert two.width > 1.9 * one.width
        corners = []
        for f in range(6):
            one.seek(f)
            corners.append(one.convert('RGB').getpixel((40, 40)))
    colors = [overlays[0].paint(images[0], t)[1, 1] * 255 for t in range(2)]
    for f, corner in enumerate(corners):
        np.testing.assert_allclose(corner, colors[f // 3], atol=4)


def test_mistakes(tmp_path):
    images = np.zeros((3, 4, 4, 3), np.uint8)
    overlay = MergeOverlay(TOKENS)
    with pytest.raises(ValueError, match='plot_overlays needs at least one overlay'):
        plot_overlays(images, [], tmp_path / 'a.png')
    with pytest.raises(ValueError, match='3 images for 2 token frames'):
        plot_overlays(images, [overlay], tmp_path / 'a.png')
    with pytest.raises(ValueError, match='1 images for 2 token frames'):
        play_overlays(images[:1], [overlay], tmp_path / 'a.gif')
    with pytest.raises(ValueError, match='a.png: the moving picture is a .gif'):
        play_overlays(images, [overlay], tmp_path / 'a.png')
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match='MergeOverlay: num_shown=0: must be at least'):
        MergeOverlay(TOKENS, num_shown=0)
