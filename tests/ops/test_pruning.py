# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Places of tokens, their order, and putting them back."""
from fractions import Fraction
from math import ceil

import pytest
import torch
from torch.testing import assert_close

from mmaction_tokenreduce.ops import (
    grid_places,
    is_keyframe,
    kept_count,
    keyframe_first,
    rank_order,
    restore,
    take_tokens,
)

THW = (4, 2, 3)  # the keyframe is frame 2: places 12 to 17


@pytest.mark.parametrize('keep', ['0.9', '0.8', '0.7', '0.6', '0.55', '0.07', '0.7375',
                                  '1'])
def test_counts_are_those_of_exact_arithmetic(keep):
    """A float product can lie just above a whole number."""
    for length in range(1, 2500):
        assert kept_count(length, float(keep)) == ceil(Fraction(keep) * length)
    assert ceil(0.55 * 100) == 56 and kept_count(100, 0.55) == 55


def test_the_keyframe_is_the_middle_frame():
    places = grid_places(2, THW, 'cpu')
    assert places.tolist() == [list(range(24))] * 2
    assert is_keyframe(places, THW)[1].nonzero().flatten().tolist() == list(
        range(12, 18))
    assert keyframe_first(THW, 'cpu').tolist() == [
        *range(12, 18), *range(0, 12), *range(18, 24)]
    assert keyframe_first((3, 1, 2), 'cpu').tolist() == [2, 3, 0, 1, 4, 5]
    assert keyframe_first((1, 1, 2), 'cpu').tolist() == [0, 1]


def test_order_by_hand():
    importance = torch.tensor([[0.1, 0.4, 0.2, 0.4, 0.3, 0.0]])
    assert rank_order(importance).tolist() == [[1, 3, 4, 2, 0, 5]]
    fixed = torch.tensor([[False, False, True, False, False, True]])
    assert rank_order(importance, fixed).tolist() == [[2, 5, 1, 3, 4, 0]]
    valid = torch.tensor([[True, False, True, True, False, False]])
    # padding last, but what is fixed stays where it is
    assert rank_order(importance, fixed, valid).tolist() == [[2, 5, 3, 0, 1, 4]]
    assert rank_order(importance, None, valid).tolist() == [[3, 2, 0, 1, 4, 5]]


def test_a_broken_number_does_not_get_past_fixed_tokens():
    importance = torch.tensor([[float('nan'), 0.1, 0.2]])
    fixed = torch.tensor([[False, False, True]])
    assert rank_order(importance, fixed).tolist() == [[2, 1, 0]]


def test_tokens_are_taken_row_by_row():
    x = torch.randn(2, 5, 3, requires_grad=True)
    index = torch.tensor([[4, 0, 0], [1, 3, 2]])
    got = take_tokens(x, index)
    assert_close(got, torch.stack([x[b, index[b]] for b in range(2)]))
    got.sum().backward()
    assert x.grad[..., 0].tolist() == [[2, 0, 0, 0, 1], [0, 1, 1, 1, 0]]


def test_every_token_is_put_back_at_its_place():
    x = torch.randn(2, 24, 3)
    order = torch.stack([torch.randperm(24) for _ in range(2)])
    parts = [(take_tokens(x, part), part) for part in order.split([10, 1, 13], dim=1)]
    assert torch.equal(restore(parts), x)
