# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Restoring kept tokens, and pooling actors frame by frame as mmcv does."""
import pytest
import torch
from mmcv.ops import roi_align
from torch.testing import assert_close

from mmaction_tokenreduce.layers import (
    ActorPooling,
    PyramidRoIAlign,
    places_of,
    restore_tokens,
)

THW = (3, 4, 6)
PLACES = torch.tensor([[24, 25, 26, 7, 60, 3], [24, 25, 26, 50, 1, 71]])


def test_tokens_stand_where_they_come_from():
    tokens = torch.randn(2, 6, 5)
    clip = restore_tokens(tokens, places_of(PLACES, 3, 'place'), 72, torch.full((5, ),
                                                                                 -7.0))
    for b in range(2):
        for place in range(72):
            kept = (PLACES[b] == place).nonzero()
            want = tokens[b, kept[0, 0]] if len(kept) else torch.full((5, ), -7.0)
            assert_close(clip[b, place], want)


def test_released_order_fills_kept_places_in_ascending_order():
    want = torch.tensor([[24, 25, 26, 3, 7, 60], [24, 25, 26, 1, 50, 71]])
    assert_close(places_of(PLACES, 3, 'released'), want)


def test_a_full_clip_is_restored_bit_for_bit():
    tokens = torch.randn(2, 72, 5)
    places = torch.rand(2, 72).argsort(1)
    clip = restore_tokens(tokens, places, 72, torch.zeros(5))
    assert_close(clip.gather(1, places.unsqueeze(-1).expand(-1, -1, 5)), tokens, rtol=0,
                 atol=0)


def test_the_fill_learns_from_dropped_places_only():
    fill = torch.zeros(1, 1, 5, requires_grad=True)
    restore_tokens(torch.randn(2, 6, 5), PLACES, 72, fill).sum().backward()
    assert_close(fill.grad, torch.full((1, 1, 5), 2 * 66.0))
    full = torch.zeros(1, 1, 5, requires_grad=True)
    order = torch.arange(72).expand(2, -1)
    restore_tokens(torch.randn(2, 72, 5), order, 72, full).sum().backward()
    assert_close(full.grad, torch.zeros(1, 1, 5))  # there, for DDP, and 0


def test_pooling_equals_mmcv_frame_by_frame():
    """The largest of 7x7 bins of the extended and clipped box; the mean over frames."""
    clip = torch.randn(2, 72, 5)
    sizes = torch.tensor([[64.0, 96.0], [40.0, 90.0]])
    low = torch.rand(2, 7, 2) * 90 - 10
    boxes = torch.cat((low, low + torch.rand(2, 7, 2) * 70), -1)
    got = ActorPooling((0.4, 0.2))(clip, THW, boxes, sizes)
    for b in range(2):
        frames = clip[b].view(3, 4, 6, 5).permute(0, 3, 1, 2).contiguous()
        height, width = sizes[b].tolist()
        for n, (x1, y1, x2, y2) in enumerate(boxes[b].tolist()):
            dx, dy = 0.2 * (x2 - x1 + 1), 0.1 * (y2 - y1 + 1)
            box = [min(max(v, 0), side - 1) for v, side in zip(
                (x1 - dx, y1 - dy, x2 + dx, y2 + dy), (width, height) * 2,
                strict=True)]
            rois = torch.tensor([[t, *box] for t in range(3)])
            bins = roi_align(frames, rois, (7, 7), 1 / 16, 2, 'avg', True)
            assert_close(got[b, n], bins.amax((2, 3)).mean(0), rtol=1e-4, atol=1e-5)


def test_pyramid_gives_bins_row_by_row():
    maps = [torch.randn(1, 64 // s, 64 // s, 2) for s in (4, 8, 16, 32)]
    box = torch.tensor([[[4.0, 8.0, 50.0, 40.0]]])
    got = PyramidRoIAlign()(maps, box)
    image = maps[0].permute(0, 3, 1, 2).contiguous()  # a small box: the finest map
    want = roi_align(image, torch.tensor([[0, 4.0, 8.0, 50.0, 40.0]]), (7, 7), 1 / 4, 2,
                     'avg', True)
    assert_close(got[0, 0].T.view(1, 2, 7, 7), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('make,message', [
    (lambda: ActorPooling((0.4, -0.1)), r'roi_extension=\(0.4, -0.1\)'),
    (lambda: ActorPooling((0.4, )), 'must be two numbers'),
    (lambda: PyramidRoIAlign((4, 8, 12)), r'strides=\(4, 8, 12\): must be powers of 2'),
    (lambda: PyramidRoIAlign(()), 'each twice the one before')])
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
