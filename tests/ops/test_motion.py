# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Displacement fields: chains, inverses and pairs, against loops and true motion."""
import pytest
import torch
from torch.testing import assert_close

from mmaction_tokenreduce.ops.motion import chain, invert, pair_fields, warp

H, W = 12, 16


def moving_square(frames, velocity, start=(3.0, 4.0), size=4.0):
    """Steps (1, 2, T, H, W) of a square that moves over still ground, and its boxes."""
    steps, boxes = torch.zeros(1, 2, frames, H, W), []
    for t in range(frames):
        left, top = (s + t * v for s, v in zip(start, velocity, strict=True))
        boxes.append((left, top, left + size, top + size))
        inside = in_box(boxes[-1])
        if t:
            for axis in range(2):
                steps[0, axis, t][inside] = -velocity[axis]
    return steps, boxes


def in_box(box):
    y, x = torch.meshgrid(torch.arange(H), torch.arange(W), indexing='ij')
    left, top, right, bottom = box
    return (x >= left) & (x < right) & (y >= top) & (y < bottom)


def rounded(value):
    """Halves to the even number, as torch rounds them, of either sign alike."""
    return int(value.round())


def naive_chain(first, second):
    out = torch.zeros_like(first)
    for b in range(len(first)):
        for i in range(H):
            for j in range(W):
                x, y = (rounded(part) for part in first[b, :, i, j])
                column = min(max(j + x, 0), W - 1)
                row = min(max(i + y, 0), H - 1)
                out[b, :, i, j] = first[b, :, i, j] + second[b, :, row, column]
    return out


def test_chain_equals_a_loop():
    first, second = torch.randn(2, 2, 2, H, W) * 3
    assert_close(chain(first, second), naive_chain(first, second))


def test_inverse_of_a_translation_is_its_reverse_everywhere():
    field = torch.zeros(1, 2, H, W)
    field[:, 0], field[:, 1] = 2.0, -1.0
    # Content that leaves at the border is followed by the mean of its neighbours.
    assert_close(invert(field), -field)


@pytest.mark.parametrize('velocity', [(1.0, 0.0), (-2.0, 1.0), (5.0, 0.0), (0.4, 0.3)])
def test_inverse_points_to_where_the_square_went(velocity):
    steps, boxes = moving_square(2, velocity)
    forward = invert(steps[:, :, 1])[0]
    if max(map(abs, velocity)) < 0.5:  # it lands where it started, to the cell
        inside = in_box(boxes[0]) & in_box(boxes[1])
    else:
        inside = in_box(boxes[0])  # also where still ground lands, as if in front
    want = torch.tensor(velocity).view(2, 1).expand(-1, int(inside.sum()))
    assert_close(forward[:, inside], want)


def test_what_moves_most_is_in_front():
    # Two cells land on the same one: the farther has covered the nearer.
    field = torch.zeros(1, 2, 1, 6)
    field[0, 0, 0] = torch.tensor([0., 0., 2., 0., 0., -1.])  # 2 -> 4, 4 -> 4, 5 -> 4
    assert invert(field)[0, 0, 0, 4] == -2


@pytest.mark.parametrize('frames,sub_clips', [(4, 1), (4, 2), (6, 2), (3, 3)])
def test_pairs_are_the_true_displacements(frames, sub_clips):
    velocity = (1.0, 1.0)
    steps, boxes = moving_square(frames, velocity, start=(3.0, 2.0))
    pairs = pair_fields(steps, sub_clips)
    size = frames // sub_clips
    assert pairs.shape == (1, sub_clips, size, size, 2, H, W)
    for s in range(sub_clips):
        for i in range(size):
            inside = in_box(boxes[s * size + i])
            for j in range(size):
                got = pairs[0, s, i, j][:, inside]
                want = torch.tensor(velocity).view(2, 1).expand_as(got) * (j - i)
                assert_close(got, want)


def test_first_step_of_a_sub_clip_is_not_read():
    steps, _ = moving_square(4, (1.0, 0.0))
    other = steps.clone()
    other[:, :, 0] = other[:, :, 2] = 99.0
    assert_close(pair_fields(steps, 2), pair_fields(other, 2), rtol=0, atol=0)


def test_pairs_need_sub_clips_that_divide():
    with pytest.raises(ValueError, match='sub_clips=3: must divide the 4 frames'):
        pair_fields(torch.zeros(1, 2, 4, H, W), 3)


def test_mirroring_commutes():
    steps = (torch.randn(2, 2, 4, H, W) * 4).round() / 2  # many halves
    mirrored = steps.flip(-1) * torch.tensor([-1., 1.]).view(2, 1, 1, 1)
    want = pair_fields(steps, 1).flip(-1) * torch.tensor([-1., 1.]).view(2, 1, 1)
    assert_close(pair_fields(mirrored, 1), want)


def test_warp_predicts_by_motion():
    image = torch.rand(1, 3, H, W)
    field = torch.zeros(1, 2, H, W)
    field[:, 0], field[:, 1] = -2.0, 1.0
    got = warp(image, field)
    assert_close(got[..., :-1, 2:], image[..., 1:, :-2])
    field[:, 0] = 0.5
    field[:, 1] = 0.0
    assert_close(warp(image, field)[..., :-1],
                 (image[..., :-1] + image[..., 1:]) / 2)
