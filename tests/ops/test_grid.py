# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Keeping frames and regions, against loops over frames, rows and columns."""
import pytest
import torch
from torch.testing import assert_close

from mmaction_tokenreduce.ops import (
    Places,
    anchor_grid,
    anchor_scores,
    anchor_size,
    keep_frames,
    keep_regions,
    mix_frames,
    mix_regions,
    one_hot_rows,
    split_extra,
)

THW = (4, 5, 6)


@pytest.fixture(params=[0, 1, 2], ids='extra{}'.format)
def tokens(request):
    """(x, number of extra tokens) on a non-square grid."""
    return torch.randn(2, request.param + 4 * 5 * 6, 3), request.param


def as_grid(x, extra, thw):
    return x[:, extra:].reshape(len(x), *thw, x.shape[-1])


@pytest.mark.parametrize('hw,keep,size', [
    ((14, 14), 0.863, (13, 13)),
    ((14, 14), 0.7367, (12, 12)),
    ((56, 56), 0.6, (43, 43)),
    ((14, 14), 0.3, (7, 7)),
    ((10, 20), 0.5, (7, 14)),
    ((20, 10), 0.5, (14, 7)),
    ((9, 16), 1.0, (9, 16)),
])
def test_anchor_size(hw, keep, size):
    assert anchor_size(hw, keep) == size


def test_anchor_never_exceeds_its_share():
    for height in range(1, 20):
        for width in range(1, 20):
            for keep in (0.1, 0.35, 0.5, 0.9, 0.999):
                size = anchor_size((height, width), keep)
                assert size[0] * size[1] <= height * width * keep


@pytest.mark.parametrize('hw,size,stride,counts', [
    ((14, 14), (13, 13), (1, 1), (2, 2)),
    ((14, 14), (7, 7), (3, 3), (3, 3)),
    ((56, 56), (43, 43), (6, 6), (3, 3)),
    ((5, 6), (2, 6), (1, 1), (4, 1)),
    ((5, 6), (5, 6), (1, 1), (1, 1)),
])
def test_anchor_grid(hw, size, stride, counts):
    grid = anchor_grid(hw, size)
    assert (grid.stride, grid.counts) == (stride, counts)


@pytest.mark.parametrize('size', [(6, 3), (3, 7), (0, 2)])
def test_anchor_that_does_not_fit(size):
    with pytest.raises(ValueError, match=r'does not fit a grid of 5x6: allowed are'):
        anchor_grid((5, 6), size)


def test_anchor_scores_are_means_over_the_anchor():
    scores, grid = torch.rand(3, 5 * 6), anchor_grid((5, 6), (2, 3))
    got = anchor_scores(scores, (5, 6), grid)
    maps = scores.view(3, 5, 6)
    want = [[maps[m, r:r + 2, c:c + 3].mean() for r in range(0, 4, grid.stride[0])
             for c in range(0, 4, grid.stride[1])] for m in range(3)]
    assert_close(got, torch.tensor(want))


def test_split_extra_is_a_view():
    x = torch.randn(2, 1 + 12, 3)
    extra, grid = split_extra(x, (3, 2, 2))
    assert extra.shape == (2, 1, 3) and grid.shape == (2, 3, 4, 3)
    assert grid.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
    with pytest.raises(ValueError, match='13 tokens do not fill a grid of 4x2x2'):
        split_extra(x, (4, 2, 2))


def test_keep_frames(tokens):
    x, extra = tokens
    index = torch.tensor([[0, 3], [1, 2]])
    got = keep_frames(x, THW, index)
    assert_close(got[:, :extra], x[:, :extra])
    for b in range(2):
        for k in range(2):
            assert_close(as_grid(got, extra, (2, 5, 6))[b, k],
                         as_grid(x, extra, THW)[b, index[b, k]])


def test_mix_frames_is_the_weighted_sum(tokens):
    x, extra = tokens
    weight = torch.rand(2, 3, 4)
    got = as_grid(mix_frames(x, THW, weight), extra, (3, 5, 6))
    assert_close(got, torch.einsum('bkt,bthwc->bkhwc', weight, as_grid(x, extra, THW)))


def test_one_hot_weights_give_the_kept_frames(tokens):
    x, _ = tokens
    index = torch.tensor([[0, 2, 3], [1, 2, 3]])
    weight = one_hot_rows(index, 4, torch.float32)
    assert_close(mix_frames(x, THW, weight), keep_frames(x, THW, index))


def test_keep_regions(tokens):
    x, extra = tokens
    grid = anchor_grid((5, 6), (3, 4))  # 3 x 3 anchors
    index = torch.tensor([[0, 1, 2, 8], [3, 4, 5, 7]])
    got = as_grid(keep_regions(x, THW, index, grid), extra, (4, 3, 4))
    assert_close(keep_regions(x, THW, index, grid)[:, :extra], x[:, :extra])
    for b in range(2):
        for t in range(4):
            top, left = index[b, t] // 3, index[b, t] % 3
            assert_close(got[b, t],
                         as_grid(x, extra, THW)[b, t, top:top + 3, left:left + 4])


def test_one_hot_weights_give_the_kept_regions(tokens):
    x, _ = tokens
    grid = anchor_grid((5, 6), (3, 4))
    index = torch.tensor([[0, 1, 2, 8], [3, 4, 5, 7]])
    weight = one_hot_rows(index, 9, torch.float32)
    assert_close(mix_regions(x, THW, weight, grid), keep_regions(x, THW, index, grid))


def test_soft_choices_have_the_right_gradients():
    x = torch.randn(1, 1 + 2 * 3 * 3, 2, dtype=torch.double, requires_grad=True)
    frames = torch.rand(1, 1, 2, dtype=torch.double, requires_grad=True)
    regions = torch.rand(1, 2, 4, dtype=torch.double, requires_grad=True)
    grid = anchor_grid((3, 3), (2, 2))
    torch.autograd.gradcheck(lambda x, w: mix_frames(x, (2, 3, 3), w), (x, frames))
    torch.autograd.gradcheck(lambda x, w: mix_regions(x, (2, 3, 3), w, grid),
                             (x, regions))


def test_places_follow_frames_crops_and_pooling():
    places = Places.of_full_grid(1, (4, 8, 8), torch.device('cpu'))
    places = places.keep_frames(torch.tensor([[1, 3]]))
    places = places.shift(torch.tensor([[2, 4]]), torch.tensor([[0, 6]]))
    places = places.pool((1, 2, 2), (4, 4, 4))
    assert places.frame.tolist() == [[1, 3]]
    assert places.top.tolist() == [[1.0, 2.0]]
    assert places.left.tolist() == [[0.0, 3.0]]
    assert places.full == (4, 4, 4)
