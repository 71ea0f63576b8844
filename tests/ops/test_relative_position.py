# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Relative positions read at true distances, against a loop over token pairs."""
import itertools

import pytest
import torch
from mmaction.models.backbones.mvit import add_decomposed_rel_pos
from torch.testing import assert_close

from mmaction_tokenreduce.ops import Places
from mmaction_tokenreduce.ops.relative_position import decomposed_bias


def tables(sizes, dim=4):
    return tuple(torch.randn(2 * size - 1, dim) for size in sizes)


@pytest.mark.parametrize('q_thw,k_thw', [
    ((3, 4, 4), (3, 4, 4)), ((3, 8, 8), (3, 2, 2)),
    ((2, 3, 5), (2, 6, 5)), ((2, 7, 7), (2, 4, 4)),
])
def test_full_grids_equal_mmaction2(q_thw, k_thw):
    q = torch.randn(2, 3, q_thw[0] * q_thw[1] * q_thw[2], 4)
    sizes = [max(a, b) for a, b in zip(q_thw, k_thw, strict=True)]
    table_t, table_h, table_w = tables(sizes)
    zeros = torch.zeros(2, 3, q.shape[2], k_thw[0] * k_thw[1] * k_thw[2])
    want = add_decomposed_rel_pos(zeros, q, q_thw, k_thw, table_h, table_w, table_t)
    got = decomposed_bias(q, q_thw, k_thw, (table_t, table_h, table_w), q_thw, k_thw)
    assert_close(got, want)


def test_tables_of_another_size_are_resized_as_in_mmaction2():
    q, thw = torch.randn(1, 1, 2 * 6 * 6, 4), (2, 6, 6)
    table_t, table_h, table_w = tables((4, 8, 8))
    zeros = torch.zeros(1, 1, 72, 72)
    want = add_decomposed_rel_pos(zeros, q, thw, thw, table_h, table_w, table_t)
    got = decomposed_bias(q, thw, thw, (table_t, table_h, table_w), thw, thw)
    assert_close(got, want)


def test_kept_frames_and_regions_read_their_true_distances():
    full, thw = (5, 6, 7), (2, 3, 4)
    places = Places(frame=torch.tensor([[0, 3], [2, 4]]),
                    top=torch.tensor([[0., 3.], [1., 2.]]),
                    left=torch.tensor([[3., 0.], [2., 1.]]), full=full)
    table_t, table_h, table_w = all_tables = tables(full)
    q = torch.randn(2, 1, 24, 4)
    got = decomposed_bias(q, thw, thw, all_tables, full, full, places, places)
    tokens = list(itertools.product(range(2), range(3), range(4)))
    for b in range(2):
        for i, (t, h, w) in enumerate(tokens):
            for j, (s, y, x) in enumerate(tokens):
                rows = (
                    table_t[places.frame[b, t] - places.frame[b, s] + 4],
                    table_h[int(places.top[b, t] + h - places.top[b, s] - y) + 5],
                    table_w[int(places.left[b, t] + w - places.left[b, s] - x) + 6])
                want = sum(q[b, 0, i] @ row for row in rows)
                assert_close(got[b, 0, i, j], want)


def test_pooled_keys_of_a_crop_keep_their_distance():
    """Rows 2..5 of 8, keys pooled by 2: key j stands at row 2 + 2j."""
    q_full, k_full = (1, 8, 1), (1, 4, 1)
    start = torch.tensor([[2.]])
    q_places = Places(torch.zeros(1, 1, dtype=torch.long), start, start * 0, q_full)
    k_places = q_places._replace(top=start / 2, full=k_full)
    table_h = torch.arange(15.).unsqueeze(1)
    zero = torch.zeros(1, 1)
    got = decomposed_bias(torch.ones(1, 1, 4, 1), (1, 4, 1), (1, 2, 1),
                          (zero, table_h, zero), q_full, k_full, q_places, k_places)
    want = [[(2 + i) - (2 + 2 * j) + 6 for j in range(2)] for i in range(4)]
    assert got[0, 0].tolist() == want
