# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What happens between two blocks, and the orders of reducers that cannot be."""
import pytest
import torch
from mmaction.registry import MODELS
from tiny_hosts import TINY, inputs_of, merging, spatial, temporal
from torch.testing import assert_close

from mmaction_tokenreduce.layers import (
    SpatialSelection,
    TemporalSelection,
    TokenMerging,
)
from mmaction_tokenreduce.models.token_sequence import TokenSequence, reduce_tokens

B, E, THW, D = 2, 1, (3, 2, 4), 8
M = 24
HOSTS = {
    'ReducedTimeSformer': TINY,
    'ReducedViT': dict(img_size=32, patch_size=8, embed_dims=24, num_heads=3, depth=4),
}


def sequence():
    return TokenSequence(torch.randn(B, E + M, D), E, THW, THW[0],
                         torch.randn(B, M, D)), torch.rand(B, M)


def test_frames_are_merged_each_by_itself_and_stand_in_their_order():
    merge, (tokens, scores) = TokenMerging(D).eval(), sequence()
    left = reduce_tokens([merge], tokens, scores)
    assert left.x.shape == (B, E + 12, D) and left.positions.shape == (B, 12, D)
    assert (left.num_extra, left.thw, left.num_frames) == (E, None, 3)
    assert torch.equal(left.x[:, :E], tokens.x[:, :E])  # the class token
    for b in range(B):
        for t in range(3):
            own, new = slice(8 * t, 8 * t + 8), slice(4 * t, 4 * t + 4)
            y, moved = merge(tokens.x[b:b + 1, E:][:, own], scores=scores[b:b + 1, own],
                             positions=tokens.positions[b:b + 1, own])
            assert_close(left.x[b, E:][new], y[0])
            assert_close(left.positions[b, new], moved[0])


def test_a_clip_is_merged_as_a_whole_and_has_no_frames_then():
    merge, (tokens, scores) = TokenMerging(D, scope='clip').eval(), sequence()
    left = reduce_tokens([merge], tokens, scores)
    y, moved = merge(tokens.x[:, E:], tokens.positions, scores)
    assert_close(left, TokenSequence(torch.cat((tokens.x[:, :E], y), 1), E, None, None,
                                     moved))


def test_without_a_class_token_and_positions():
    merge = TokenMerging(D, motion=False, filter=False).eval()
    tokens = sequence()[0]._replace(num_extra=0, x=torch.randn(B, M, D), positions=None)
    left = reduce_tokens([merge], tokens, None)
    assert left.x.shape == (B, 12, D) and left.positions is None
    assert_close(left.x[1, 4:8], merge(tokens.x[1:, 8:16])[0][0])


def test_scores_of_merged_tokens_are_not_used_again():
    first, second = TokenMerging(D), TokenMerging(D, scope='clip', filter=False)
    calls = inputs_of(second)
    reduce_tokens([first, second], *sequence())
    tokens, positions, scores = calls[0]
    assert tokens.shape == positions.shape == (B, 12, D) and scores is None


def test_selectors_hand_on_what_is_left():
    time, space = TemporalSelection(D, 0.7).eval(), SpatialSelection(D, 0.5).eval()
    merge, (tokens, scores) = TokenMerging(D).eval(), sequence()
    calls = inputs_of(merge)
    left = reduce_tokens([time, space, merge], tokens, scores)
    # 2 of 3 frames; of 2x4 places at most 4 in the grid's proportions: 1x2
    assert left.x.shape == (B, E + 2, D) and left.num_frames == 2
    rows, positions, given = calls[0]
    assert rows.shape == (4, 2, D)
    for row in range(4):
        for i in range(2):
            place = (tokens.x[row // 2, E:] == rows[row, i]).all(1).nonzero().item()
            assert torch.equal(positions[row, i], tokens.positions[row // 2, place])
            assert given[row, i] == scores[row // 2, place]


def test_in_training_positions_are_mixed_as_the_tokens_are():
    """Soft choices weigh frames and regions; here both hold the same values."""
    time, space, merge = (TemporalSelection(D, 0.7), SpatialSelection(D, 0.5),
                          TokenMerging(D))
    tokens, scores = sequence()
    calls = inputs_of(merge)
    reduce_tokens([time, space, merge], tokens._replace(positions=tokens.x[:, E:]),
                  scores)
    rows, positions, _ = calls[0]
    assert_close(positions, rows)
    kept = (rows.view(2, -1, 1, D) == tokens.x[:, None, E:]).all(-1).any(-1)
    assert not kept.all()  # mixed indeed


def test_a_ratio_of_0_leaves_grid_and_scores_alone():
    tokens, scores = sequence()
    reducers = [TokenMerging(D, ratio=0, scope='clip'), TokenMerging(D)]
    calls = inputs_of(reducers[1])
    reduce_tokens(reducers, tokens, scores)
    assert_close(calls[0][2], scores.view(6, 8))


@pytest.mark.parametrize('host', HOSTS)
@pytest.mark.parametrize('reducers,message', [
    ([merging(1, 'clip'), merging(2)],
     r"TokenMerging \(scope='frame'\) before=2: the clip was merged before=1 \(scope='"
     r"clip'\) and its tokens belong to no frame; merge frames first, or use scope="),
    ([merging(2, 'clip', filter=False), merging(2, filter=False)],
     r"TokenMerging \(scope='frame'\) before=2: the clip was merged before=2"),
    ([temporal(3, 0.5), merging(2)], 'TemporalSelection before=3: merging before=2 left'
     ' no grid to select from; select first'),
    ([merging(1, 'clip'), spatial(2, 0.5)],
     'SpatialSelection before=2: merging before=1 left no grid to select from'),
    ([merging(2), merging(2, 'clip')], 'TokenMerging before=2: filter=True cannot serve'
     ' after another merge at the same place: .*; allowed is filter=False'),
    ([merging(4)], r'reducers\[0\] \(TokenMerging\): before=4: allowed are 0 to 3'),
    ([merging(1, 'video')], r"reducers\[0\]: .*scope='video': allowed are frame, clip"),
    ([merging(1, ratio=1)], r'reducers\[0\]: .*ratio=1: must be a number in \[0, 1\)'),
    ([merging(1, keep=0.5)], r"reducers\[0\]: .*'keep'"),
    ([dict(type='TimeSformerHead', num_classes=3, before=0)],
     r'reducers\[0\] \(TimeSformerHead\) before=0: is not a grid reducer and no merg'),
    ([merging(0)], r'reducers\[0\] \(TokenMerging\) before=0: filter=True cannot serve '
     'here: no attention has been computed there yet'),
])
def test_reducers_that_cannot_serve(host, reducers, message):
    with pytest.raises(ValueError, match=f'^{host}: {message}'):
        MODELS.build(dict(type=host, **HOSTS[host], reducers=reducers))


@pytest.mark.parametrize('host', HOSTS)
def test_orders_that_can_be(host):
    for reducers in ([merging(1, 'clip'), merging(3, 'clip')],
                     [merging(3, 'clip'), spatial(1, 0.5), merging(2), merging(1)],
                     [merging(1, 'clip', ratio=0), temporal(2, 0.5), merging(2)]):
        model = MODELS.build(dict(type=host, **HOSTS[host], reducers=reducers))
        assert [type(r).__name__ for r in model.reducers] == [
            cfg['type'] for cfg in reducers]
