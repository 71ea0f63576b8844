# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""RoIAlign against mmcv's operator, a worked example and a loop over levels."""
import math

import pytest
import torch
from mmcv.ops import RoIAlign
from torch.testing import assert_close

from mmaction_tokenreduce.ops import roi_align as module
from mmaction_tokenreduce.ops.roi_align import pyramid_level, roi_align, roi_max

STRIDES = (4, 8, 16, 32)


def boxes_around(height, width, count, batch=2):
    """Boxes of all sizes, many of them partly or wholly outside."""
    low = torch.rand(batch, count, 2) * 1.6 - 0.3
    high = low + torch.rand(batch, count, 2)**2 * 1.2
    scale = torch.tensor([width, height, width, height])
    return torch.cat((low, high), -1) * scale


def by_mmcv(maps, boxes, strides, level):
    """(B, N, 49, C) by mmcv's operator, box by box."""
    out = torch.empty(*boxes.shape[:2], 49, maps[0].shape[-1])
    for b, n in torch.cartesian_prod(*map(torch.arange, boxes.shape[:2])):
        i = level[b, n]
        image = maps[i][b:b + 1].permute(0, 3, 1, 2).contiguous()
        roi = torch.cat((torch.zeros(1), boxes[b, n])).unsqueeze(0)
        out[b, n] = RoIAlign(7, 1 / strides[i], 2, 'avg', True)(
            image, roi)[0].flatten(1).T
    return out


def test_worked_example():
    """A map that grows by 1 a column and by 10 a row, read without interpolation."""
    rows, columns = torch.arange(6.0) * 10, torch.arange(8.0)
    image = (rows.unsqueeze(1) + columns).view(1, 6, 8, 1)
    box = torch.tensor([[[16.0, 32.0, 48.0, 64.0]]])  # columns 1 to 3, rows 2 to 4
    got = roi_align([image], box, (16, ), bins=2)
    # A bin is a place; its samples lie around the place's middle.
    assert_close(got.view(4), torch.tensor([21.0, 22.0, 31.0, 32.0]))
    assert roi_max([image], box, (16, ), bins=2).item() == 32.0


@pytest.mark.parametrize('height,width', [(14, 14), (9, 20), (1, 5)])
def test_equals_mmcv_on_one_map(height, width):
    image = torch.randn(2, height, width, 5)
    boxes = boxes_around(16 * height, 16 * width, 25)
    want = by_mmcv([image], boxes, (16, ), torch.zeros(2, 25, dtype=torch.long))
    assert_close(roi_align([image], boxes, (16, )), want, rtol=1e-5, atol=1e-5)
    assert_close(roi_max([image], boxes, (16, )), want.amax(2), rtol=1e-5, atol=1e-5)


def test_equals_mmcv_on_a_pyramid():
    maps = [torch.randn(2, 512 // s, 640 // s, 3) for s in STRIDES]
    boxes = boxes_around(512, 640, 40)
    level = pyramid_level(boxes, STRIDES)
    assert set(level.flatten().tolist()) == {0, 1, 2, 3}
    want = by_mmcv(maps, boxes, STRIDES, level)
    assert_close(roi_align(maps, boxes, STRIDES), want, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize('side,level', [
    (3, 0), (111, 0), (112, 1), (223, 1), (224, 2), (447, 2), (448, 3), (2000, 3)])
def test_level_of_a_box(side, level):
    """floor(4 + log2(sqrt(area) / 224)) is the exponent of the stride, within 2..5."""
    box = torch.tensor([[[10.0, 20.0, 10.0 + side / 2, 20.0 + 2 * side]]])
    assert pyramid_level(box, STRIDES).item() == level
    exponent = math.floor(4 + math.log2(side / 224) + 1e-8)
    assert level == min(max(exponent, 2), 5) - 2


def test_boxes_that_are_no_numbers_do_no_harm():
    maps = [torch.randn(1, 512 // s, 512 // s, 3) for s in STRIDES]
    boxes = torch.tensor([[[math.nan] * 4, [-math.inf, 0, math.inf, 9],
                           [8.0, 8.0, 64.0, 64.0]]])
    got = roi_align(maps, boxes, STRIDES)
    assert_close(got[:, 2:], roi_align(maps, boxes[:, 2:], STRIDES))


def test_gradients_reach_maps_and_not_boxes():
    maps = [torch.randn(1, 4 // s, 6 // s, 2, dtype=torch.float64, requires_grad=True)
            for s in (1, 2)]
    boxes = torch.tensor([[[1.0, 2.0, 15.0, 11.0], [0.0, 0.0, 200.0, 300.0]]],
                         requires_grad=True)
    weight = torch.randn(1, 2, 49, 2)
    (roi_align(maps, boxes, (4, 8)) * weight).sum().backward()
    assert boxes.grad is None
    for i, image in enumerate(maps):
        step = torch.zeros_like(image)
        step[0, 1, 1, 1] = 1
        moved = [m + step if m is image else m for m in maps]
        with torch.no_grad():
            change = (roi_align(moved, boxes, (4, 8)) - roi_align(
                maps, boxes, (4, 8))) * weight
        assert_close(change.sum(), image.grad[0, 1, 1, 1], rtol=1e-4, atol=1e-5,
                     msg=f'map {i}', check_dtype=False)


def test_parts_give_what_one_does(monkeypatch):
    image, boxes = torch.randn(2, 6, 7, 4), boxes_around(96, 112, 9)
    want = roi_align([image], boxes, (16, )), roi_max([image], boxes, (16, ))
    monkeypatch.setattr(module, '_CELLS', 49 * 4 * 4)  # 4 of 18 boxes at a time
    got = roi_align([image], boxes, (16, )), roi_max([image], boxes, (16, ))
    assert_close(got, want, rtol=0, atol=0)


def test_sums_stay_exact_under_autocast():
    image, boxes = torch.randn(1, 6, 7, 4), boxes_around(96, 112, 9, batch=1)
    want = roi_align([image], boxes, (16, ))
    with torch.autocast('cpu', torch.bfloat16):
        assert_close(roi_align([image], boxes, (16, )), want, rtol=0, atol=0)
        half = roi_align([image.bfloat16()], boxes, (16, ))
    assert half.dtype == torch.bfloat16
    assert_close(half.float(), want, rtol=0.02, atol=0.02)
