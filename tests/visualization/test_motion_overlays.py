# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Displacement fields in colour, and residuals."""
import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from mmaction_tokenreduce.visualization import (
    FieldOverlay,
    ResidualOverlay,
    motion_overlays,
    play_overlays,
    plot_overlays,
    token_fields,
)
from mmaction_tokenreduce.visualization.motion_overlays import residuals, wheel_colors


def test_hue_is_direction_and_saturation_length():
    right, down, left, up = (10., 0.), (0., 10.), (-10., 0.), (0., -10.)
    field = np.array([right, down, left, up, (0., 0.), (5., 0.), (90., 0.)]).T
    colors = wheel_colors(field, 10)
    np.testing.assert_allclose(colors, [
        (1, 0, 0), (0.5, 1, 0), (0, 1, 1), (0.5, 0, 1), (1, 1, 1), (1, 0.5, 0.5),
        (1, 0, 0)], atol=1e-6)


def test_fields_between_token_frames_follow_each_place():
    """Against a walk of each cell through the sampled frames, two to a token frame."""
    motion = torch.randint(-2, 3, (2, 6, 5, 7)).float() * 4
    fields = token_fields(torch.zeros(3, 6, 20, 28), motion, 3)
    assert fields.shape == (3, 2, 5, 7) and not fields[0].any()
    for t in (1, 2):
        for row in range(5):
            for column in range(7):
                x, y = column, row
                moved = torch.zeros(2)
                for f in (2 * t, 2 * t - 1):
                    step = motion[:, f, min(max(y, 0), 4), min(max(x, 0), 6)]
                    moved += step
                    x, y = (int(place + part / 4) for place, part in zip(
                        (column, row), moved, strict=True))
                torch.testing.assert_close(fields[t, :, row, column], moved)


def moving_images(step):
    """Noise that moves ``step`` px to the right from image to image."""
    wide = np.random.RandomState(0).randint(0, 256, (16, 80, 3)).astype(np.uint8)
    return np.stack([wide[:, 40 - t * step:72 - t * step] for t in range(3)])


def test_residuals_are_what_motion_does_not_predict():
    images = moving_images(4)
    fields = torch.zeros(3, 2, 4, 8)
    fields[1:, 0] = -4.
    rest, still = residuals(images, fields)
    assert not rest[0].any() and not still[0].any()
    np.testing.assert_allclose(rest[1:, :, 4:], 0, atol=1e-3)
    np.testing.assert_array_equal(
        still[2], images[2].astype(int) - images[1].astype(int))
    painted = ResidualOverlay(np.stack([rest[0], still[1]])).paint(images[1], 1)
    scale = ResidualOverlay(np.stack([rest[0], still[1]])).scale
    np.testing.assert_allclose(painted, np.clip(0.5 + still[1] / 2 / scale, 0, 1))


@pytest.mark.parametrize('largest, scale', [(0., 1), (0.7, 1), (1.2, 1.5), (7., 8),
                                            (11., 15), (80., 80), (81., 100)])
def test_scale_is_a_round_number(largest, scale):
    fields = np.zeros((2, 2, 4, 4))
    fields[0] = 500  # of the first frame nothing is known
    fields[1, 1] = largest
    assert FieldOverlay(fields).scale == scale


def test_overlays_of_a_clip():
    images = moving_images(4)
    motion = torch.zeros(2, 6, 4, 8)
    motion[0] = -2.
    imgs = torch.from_numpy(images).permute(3, 0, 1, 2).repeat_interleave(2, dim=1)
    frames, field, residual = motion_overlays(imgs, motion.half(), images)
    np.testing.assert_array_equal(frames.paint(images[1], 1), images[1] / 255)
    np.testing.assert_allclose(field.fields[1:, 0], -4)
    assert field.title.endswith('4 x 8 cells: mean 4.0 px, largest 4 px')
    np.testing.assert_allclose(field.paint(images[1], 1)[3, 5], (0, 1, 1), atol=1e-6)
    np.testing.assert_allclose(residual.residual[1:, :, 4:], 0, atol=1e-3)
    with_motion, without = (np.abs(part[1:]).mean() for part in residuals(
        images, torch.from_numpy(field.fields)))
    assert f'mean {with_motion:.1f} of 255 ({without:.1f} without' in residual.title
    assert with_motion < 0.2 * without
    still = motion_overlays(imgs, torch.zeros(2, 6, 4, 8), images)[1]
    assert still.title.endswith('no motion')


def hues(picture):
    """How many pixels are of each of six full hues, from red on."""
    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV).astype(int)
    full = (hsv[..., 1] > 200) & (hsv[..., 2] > 200)
    return np.bincount((hsv[..., 0][full] + 15) % 180 // 30, minlength=6)


def test_still_and_moving_picture_have_a_colour_wheel(tmp_path):
    images = np.random.RandomState(0).randint(90, 110, (4, 40, 40, 1)).repeat(3, -1)
    images = images.astype(np.uint8)
    imgs = torch.from_numpy(images).permute(3, 0, 1, 2)
    overlays = motion_overlays(imgs, torch.zeros(2, 4, 5, 5), images)
    plot_overlays(images, overlays, tmp_path / 'a.png', 'heading')
    picture = cv2.imread(str(tmp_path / 'a.png'))[..., ::-1].copy()
    assert hues(picture).min() > 100
    plot_overlays(images, overlays[:1], tmp_path / 'b.png')
    assert hues(cv2.imread(str(tmp_path / 'b.png'))[..., ::-1].copy()).max() == 0
    play_overlays(images, overlays, tmp_path / 'a.gif')
    with Image.open(tmp_path / 'a.gif') as moving:
        assert moving.n_frames == 4
        moving.seek(2)
        # The wheel is a small part of the frame, and yet has its colours.
        assert hues(np.array(moving.convert('RGB'))).min() > 30


def test_mistakes():
    imgs = torch.zeros(3, 8, 16, 16)
    with pytest.raises(ValueError, match='motion has 3 channels: displacements have 2'):
        token_fields(imgs, torch.zeros(3, 8, 4, 4), 4)
    with pytest.raises(ValueError, match='8 sampled frames do not make 3 token frames'):
        token_fields(imgs, torch.zeros(2, 8, 4, 4), 3)
    with pytest.raises(ValueError, match='motion is 3x2x4x5x4'):
        token_fields(imgs, torch.zeros(2, 8, 5, 4), 4)
