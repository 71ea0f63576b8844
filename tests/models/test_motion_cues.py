# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Motion cues between the token frames of sub-clips (DVT, Table 1), against loops."""
import pytest
import torch
from torch.testing import assert_close

from mmaction_tokenreduce.models.motion_cues import CUES, cue_channels, pair_cues
from mmaction_tokenreduce.ops.motion import warp

B, FRAMES, T, SIDE, CELL = 2, 8, 4, 32, 4
GRID = SIDE // CELL


def cues(cue, imgs, motion=None, sub_clips=2):
    return pair_cues(cue, imgs, motion, T, sub_clips, CELL, unit=16.0)


def translation(velocity):
    """Textured clips (B, 3, F, H, W) that move as one, and their true fields."""
    texture = torch.rand(B, 3, SIDE * 3, SIDE * 3)
    imgs = torch.stack([
        texture[..., SIDE - f * velocity[1]:2 * SIDE - f * velocity[1],
                SIDE - f * velocity[0]:2 * SIDE - f * velocity[0]]
        for f in range(FRAMES)], dim=2)
    motion = -torch.tensor(velocity, dtype=torch.float).view(1, 2, 1, 1, 1)
    motion = motion.repeat(B, 1, FRAMES, GRID, GRID)
    motion[:, :, 0] = 0
    return imgs, motion


def pooled(frame):
    return torch.nn.functional.avg_pool2d(frame, CELL)


@pytest.mark.parametrize('sub_clips', [1, 2, 4])
def test_motion_adds_up_between_token_frames(sub_clips):
    imgs, motion = translation((2, -1))
    got = cues('motion', imgs, motion, sub_clips)
    size = T // sub_clips
    assert got.shape == (B, sub_clips, size, size, 2, GRID, GRID)
    for i in range(size):
        for j in range(size):
            want = torch.tensor([2., -1.]) * (j - i) * FRAMES / T / 16
            want = want.view(2, 1, 1).expand(B, sub_clips, 2, GRID, GRID)
            assert_close(got[:, :, i, j], want)


def test_a_first_frame_has_no_field_but_is_reached():
    imgs, motion = translation((2, -1))
    motion[:, :, 0] = 99.0
    assert cues('motion', imgs, motion, 1).abs().max() < 2


def test_differences_and_averages_equal_loops():
    imgs = torch.randn(B, 3, FRAMES, SIDE, SIDE)
    step, size = FRAMES // T, T // 2
    difference, average = cues('rgb_difference', imgs), cues('rgb_average', imgs)
    for s in range(2):
        for i in range(size):
            for j in range(size):
                first, last = ((s * size + k) * step for k in (i, j))
                frames = imgs[:, :, min(first, last):max(first, last) + 1]
                assert_close(difference[:, s, i, j],
                             pooled(imgs[:, :, first] - imgs[:, :, last]))
                assert_close(average[:, s, i, j], pooled(frames.mean(2)))


def test_residual_is_what_motion_does_not_predict():
    imgs, motion = translation((2, -1))
    got = cues('rgb_residual', imgs, motion)
    inner = got[..., 2:-2, 2:-2]  # at the border content has come in
    assert_close(inner, torch.zeros_like(inner), rtol=0, atol=1e-5)
    difference = cues('rgb_difference', imgs)
    assert difference[:, :, 0, 1].abs().mean() > 0.02
    still = cues('rgb_residual', imgs, torch.zeros_like(motion))
    assert_close(still, difference)
    pixels = torch.zeros(B, 2, SIDE, SIDE)
    pixels[:, 0], pixels[:, 1] = -4.0, 2.0  # two sampled frames a token frame
    want = pooled(imgs[:, :, 2] - warp(imgs[:, :, 0], pixels))
    assert_close(got[:, 0, 1, 0], want)


def test_a_still_video_has_no_motion():
    imgs = torch.rand(B, 3, 1, SIDE, SIDE).expand(-1, -1, FRAMES, -1, -1)
    motion = torch.zeros(B, 2, FRAMES, GRID, GRID)
    for cue in ('motion', 'rgb_residual', 'rgb_difference'):
        assert_close(cues(cue, imgs, motion), torch.zeros(
            B, 2, 2, 2, cue_channels(cue), GRID, GRID), rtol=0, atol=1e-6)


@pytest.mark.parametrize('cue', CUES)
def test_mirroring_a_clip_mirrors_the_cue(cue):
    imgs = torch.rand(B, 3, FRAMES, SIDE, SIDE)
    motion = torch.randn(B, 2, FRAMES, GRID, GRID) * 4
    sign = torch.tensor([-1., 1.])
    got = cues(cue, imgs.flip(-1), motion.flip(-1) * sign.view(2, 1, 1, 1))
    want = cues(cue, imgs, motion).flip(-1)
    if cue == 'motion':
        want = want * sign.view(2, 1, 1)
    assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_half_precision_fields_are_followed_in_float32():
    imgs, motion = translation((2, -1))
    assert_close(cues('motion', imgs, motion.half()), cues('motion', imgs, motion))


def test_missing_or_misshapen_fields_are_refused():
    imgs, motion = translation((1, 0))
    with pytest.raises(ValueError, match="cue='motion' needs the displacement fields"):
        cues('motion', imgs)
    with pytest.raises(ValueError, match='motion is 2x2x8x4x4: clips of 2x3x8x32x32 '
                                         'and motion_stride=4 need 2x2x8x8x8'):
        cues('motion', imgs, motion[..., ::2, ::2])
