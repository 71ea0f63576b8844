# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Boxes by hand, and mmdet's coder where it does the same."""
import math

import pytest
import torch
from torch.testing import assert_close

from mmaction_tokenreduce.ops.boxes import (
    apply_deltas,
    clip_boxes,
    covered_places,
    extend_boxes,
    whwh,
)


def test_deltas_by_hand():
    box = torch.tensor([[10.0, 20.0, 30.0, 60.0]])  # centre (20, 40), 20 x 40
    deltas = torch.tensor([[1.0, -0.5, math.log(2), -math.log(4)]])
    # The centre moves by 1/2 * 20 and -0.25 * 40; 40 x 10 around (30, 30).
    assert_close(apply_deltas(box, deltas), torch.tensor([[10.0, 25.0, 50.0, 35.0]]))


def test_growing_is_bounded_and_shrinking_is_not():
    """dw and dh are clamped from above only, at log(100000 / 16)."""
    box = torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    big = apply_deltas(box, torch.tensor([[0.0, 0.0, 20.0, math.log(100000 / 16)]]))
    assert_close(big[0, 2:] - big[0, :2], torch.full((2, ), 100000.0))
    small = apply_deltas(box - 8, torch.tensor([[0.0, 0.0, -12.0, -20.0]]))
    assert_close(small[0, 2:] - small[0, :2],
                 16 * torch.tensor([-12.0, -20.0]).exp(), rtol=1e-5, atol=0)


def test_equals_the_coder_of_mmdet_between_the_bounds():
    coder_of = pytest.importorskip('mmdet.models.task_modules.coders')
    coder = coder_of.DeltaXYWHBBoxCoder(target_stds=[0.5, 0.5, 1.0, 1.0],
                                        clip_border=False)
    low = torch.rand(50, 2) * 90
    boxes = torch.cat((low, low + torch.rand(50, 2) * 60), 1)
    deltas = torch.randn(50, 4)
    assert_close(apply_deltas(boxes, deltas), coder.decode(boxes, deltas))


def test_extension_by_hand():
    """Of a width of 19 + 1 and a height of 39 + 1, half of the share on each side."""
    box = torch.tensor([[[10.0, 20.0, 29.0, 59.0]]])
    assert_close(extend_boxes(box, (0.4, 0.2)), torch.tensor([[[6., 16., 33., 63.]]]))
    assert_close(extend_boxes(box, (0.0, 0.0)), box)


def test_clipping_to_each_image():
    sizes = torch.tensor([[48.0, 64.0], [64.0, 32.0]])  # height, width
    boxes = torch.tensor([-5.0, -7.0, 80.0, 90.0]).expand(2, 3, 4)
    assert_close(clip_boxes(boxes, sizes)[:, 0], torch.tensor([[0., 0., 64., 48.],
                                                               [0., 0., 32., 64.]]))
    assert_close(clip_boxes(boxes, sizes, margin=1)[:, 2],
                 torch.tensor([[0., 0., 63., 47.], [0., 0., 31., 63.]]))
    assert_close(whwh(sizes), torch.tensor([[[64., 48., 64., 48.]],
                                            [[32., 64., 32., 64.]]]))


def test_places_that_an_image_covers():
    got = covered_places(torch.tensor([[33.0, 48.0], [16.0, 49.0]]), (3, 4), 16)
    want = torch.tensor([[[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0]],
                         [[1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]], dtype=torch.bool)
    assert_close(got, want)
