# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Attention windows against the rule written out place by place."""
from itertools import product

import pytest
import torch
from torch.testing import assert_close

from mmaction_tokenreduce.ops.windows import window_bias, window_plan

CPU = torch.device('cpu')


def labels(size, window, shifted, packed_time):
    """For each position of one axis a label; equal labels attend to each other.

    Positions beyond ``size`` are padded.
    """
    if size <= window:
        return [0] * size
    count = -(-size // window)
    if packed_time:
        lengths = [size // count + (i < size % count) for i in range(count)]
        ends = [sum(lengths[:i + 1]) for i in range(count)]
        if shifted:
            step = lengths[0] // 2
            ends = [step] + [end + step for end in ends[:-1]] + [size]
        return [sum(position >= end for end in ends) for position in range(size)]
    total, step = count * window, window // 2 if shifted else 0
    out = []
    for position in range(total):
        rolled = (position - step) % total
        # Places that stand in the last window by wrapping round are kept apart.
        out.append((rolled // window, shifted and position < step))
    return out


def pairs(thw, window, shifted, packed):
    """(P, P) bool over padded positions: who attends to whom; and their places."""
    axes = [labels(size, length, shifted, packed and a == 0)
            for a, (size, length) in enumerate(zip(thw, window, strict=True))]
    places = list(product(*(range(len(axis)) for axis in axes)))
    tags = [tuple(axis[p] for axis, p in zip(axes, place, strict=True))
            for place in places]
    may = torch.tensor([[a == b for b in tags] for a in tags])
    inside = [all(p < s for p, s in zip(place, thw, strict=True)) for place in places]
    return may, places, inside


def planned_pairs(plan, num_places):
    """The same from a plan for one clip; padded rows come last, in any order."""
    order = plan.gather_index.tolist()
    rank = {}
    padded = num_places
    for row, place in enumerate(order):
        if place == num_places:
            rank[row], padded = padded, padded + 1
        else:
            rank[row] = place
    may = torch.zeros(len(order), len(order), dtype=torch.bool)
    first = 0
    for group in plan.groups:
        length = group.size[0] * group.size[1] * group.size[2]
        for start in range(first, first + group.num_rows, length):
            rows = torch.tensor([rank[row] for row in range(start, start + length)])
            allowed = (torch.ones(length, length, dtype=torch.bool)
                       if group.mask is None else ~group.mask)
            may[rows.unsqueeze(1), rows] = allowed
        first += group.num_rows
    return may


@pytest.mark.parametrize('thw', [(4, 8, 8), (5, 7, 6), (3, 9, 4), (9, 4, 5)], ids=str)
@pytest.mark.parametrize('shifted', [False, True])
@pytest.mark.parametrize('packed', [False, True], ids=['padded', 'packed'])
def test_who_attends_to_whom(thw, shifted, packed):
    window = (4, 4, 4)
    plan = window_plan(1, thw, window, shifted, packed, CPU)
    may, places, inside = pairs(thw, window, shifted, packed)
    num_places = thw[0] * thw[1] * thw[2]
    got = planned_pairs(plan, num_places)
    assert len(plan.gather_index) == len(places)
    flat = [i for i, ok in enumerate(inside) if ok]
    assert torch.equal(got[:num_places, :num_places], may[flat][:, flat])
    # Each place sees as many padded positions as the rule gives it.
    beyond = [i for i, ok in enumerate(inside) if not ok]
    assert torch.equal(got[:num_places, num_places:].sum(1),
                       may[flat][:, beyond].sum(1))


@pytest.mark.parametrize('packed', [False, True], ids=['padded', 'packed'])
@pytest.mark.parametrize('shifted', [False, True])
def test_tokens_come_back_where_they_were(packed, shifted):
    plan = window_plan(3, (5, 7, 6), (4, 4, 4), shifted, packed, CPU)
    x = torch.randn(3, 5 * 7 * 6, 2)
    rows = plan.gather(x)
    assert torch.equal(plan.restore(rows, 3), x)
    assert sum(group.num_rows for group in plan.groups) == len(rows)
    real = rows.abs().sum(-1) > 0
    assert int(real.sum()) == 3 * 5 * 7 * 6  # the others are padded, and zero


@pytest.mark.parametrize('frames,regular,shifted', [
    (16, [8, 8], [4, 8, 4]),  # Video Swin's own
    (14, [7, 7], [3, 7, 4]),
    (10, [5, 5], [2, 5, 3]),
    (9, [5, 4], [2, 5, 2]),
    (8, [8], [8]),
    (6, [6], [6]),
    (20, [7, 7, 6], [3, 7, 7, 3]),
])
def test_packed_windows_in_time(frames, regular, shifted):
    for is_shifted, want in ((False, regular), (True, shifted)):
        plan = window_plan(1, (frames, 2, 2), (8, 7, 7), is_shifted, True, CPU)
        lengths = []
        for group in plan.groups:
            assert group.size[1:] == (2, 2) and group.mask is None
            lengths += [group.size[0]] * (group.num_rows // (4 * group.size[0]))
        assert lengths == want and not plan.padded


def test_clips_of_a_batch_do_not_share_windows():
    plan = window_plan(2, (2, 4, 4), (2, 4, 4), False, True, CPU)
    assert plan.gather_index.view(2, 32).tolist() == [
        list(range(32)), list(range(32, 64))]


def test_bias_of_small_windows_is_at_true_distances():
    window, size, heads = (3, 4, 5), (2, 3, 5), 2
    table = torch.randn(5 * 7 * 9, heads)
    spots = list(product(*(range(side) for side in window)))
    index = torch.tensor([[((a[0] - b[0] + 2) * 7 + a[1] - b[1] + 3) * 9
                           + a[2] - b[2] + 4 for b in spots] for a in spots])
    got = window_bias(table, index, window, size)
    small = list(product(*(range(side) for side in size)))
    entries = table.view(5, 7, 9, heads)
    for i, a in enumerate(small):
        for j, b in enumerate(small):
            assert_close(got[:, i, j], entries[a[0] - b[0] + 2, a[1] - b[1] + 3,
                                               a[2] - b[2] + 4])
    assert torch.equal(window_bias(table, index, window, window)[:, 3, 8],
                       table[index[3, 8]])
