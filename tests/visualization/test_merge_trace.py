# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Which patches went into which merged token, seen through hooks."""
import numpy as np
import pytest
import torch
from torch import nn

from mmaction_tokenreduce.layers import (
    Merge,
    SpatialSelection,
    TemporalSelection,
    TokenMerging,
)
from mmaction_tokenreduce.models import ReducedTimeSformer, ReducedViT
from mmaction_tokenreduce.models.token_sequence import TokenSequence, reduce_tokens
from mmaction_tokenreduce.visualization import MergeTrace, token_grid


class Steps(nn.Module):
    """Reducers one after another, as a host would run them."""

    def __init__(self, *reducers):
        super().__init__()
        self.reducers = nn.ModuleList(reducers)

    def forward(self, x, thw):
        return reduce_tokens(self.reducers, TokenSequence(x, 0, thw, thw[0], None),
                             None).x


class Decided(nn.Module):
    """Takes the place of a merge's ``choose``."""

    def __init__(self, index, weight):
        super().__init__()
        self.merge = Merge(torch.tensor(index), torch.tensor(weight))

    def forward(self, x, features, scores, count):
        return self.merge


def merging(scope, strategy='bipartite', **kwargs):
    return TokenMerging(4, 0.5, scope=scope, strategy=strategy, **kwargs)


def by_hand():
    """Two clips of 2 frames of 1 x 4 patches: 8 -> 4 -> 2 tokens."""
    frame, clip = merging('frame'), merging('clip')
    frame.choose = Decided(
        [[0, 3], [1, 2], [0, 1], [2, 3]],
        [[[.5, .5, 0, 0], [0, 0, .5, .5]], [[.75, .25, 0, 0], [0, 0, 1, 0]],
         [[1., 0, 0, 0], [0, .5, .5, 0]], [[.5, 0, .5, 0], [0, .5, 0, .5]]])
    clip.choose = Decided([[0, 3], [1, 2]], [[[.5, 0, .5, 0], [0, .25, 0, .75]],
                                             [[.25, .75, 0, 0], [0, 0, .5, .5]]])
    return Steps(frame, clip)


def test_numbers_by_hand():
    model = by_hand()
    with MergeTrace(model) as trace:
        model(torch.randn(2, 8, 4), (2, 1, 4))
    merged = trace.merged(0, (2, 1, 4))
    # frame 0 patches 0, 1 and frame 1 patches 0, 1 became token 0; in frame 1 nothing
    # holds patch 3
    np.testing.assert_allclose(merged.weight[:, :, 0], [
        [[.25, .25, 0, 0], [.375, .125, 0, 0]],
        [[0, 0, .125, .125], [0, 0, .75, 0]]])
    assert merged.tokens.tolist() == [[[0, 0, 1, 1]], [[0, 0, 1, -1]]]
    # clip token 0 stems from merged token 0 (frame 0, patch 0); 3 is frame 1's second
    assert merged.meta.tolist() == [[0, 0, 0], [1, 0, 2]]
    assert merged.counts.tolist() == [4, 3]
    assert merged.largest(5).tolist() == [0, 1] and merged.largest(1).tolist() == [0]
    np.testing.assert_allclose(merged.shares, [1, 1])
    assert merged.summary() == '7 patches in 2 tokens, 1 dropped'
    second = trace.merged(1, (2, 1, 4))
    assert second.tokens.tolist() == [[[0, 0, 0, -1]], [[1, 1, 1, 1]]]
    assert second.meta.tolist() == [[0, 0, 1], [1, 0, 2]]


def test_a_patch_goes_where_most_of_it_is():
    only = merging('clip')
    only.choose = Decided([[0, 2]], [[[.6, .3, .1], [.2, .3, .5]]])
    model = Steps(only)
    with MergeTrace(model) as trace:
        model(torch.randn(1, 3, 4), (1, 1, 3))
    merged = trace.merged(0, (1, 1, 3))
    assert merged.tokens.tolist() == [[[0, 0, 1]]]  # of equals the first
    np.testing.assert_allclose(merged.shares, [.9, .5])


@pytest.mark.parametrize('strategy', ['bipartite', 'orthogonal'])
@pytest.mark.parametrize('selectors, left', [
    ([], 72), ([TemporalSelection(4, 0.67)], 48),
    ([TemporalSelection(4, 0.67), SpatialSelection(4, anchor=(3, 2))], 12),
    ([SpatialSelection(4, anchor=(2, 4), unit='token')], 24),
    ([TemporalSelection(4, 1)], 72)])
def test_tokens_are_the_composed_weights_times_the_patches(strategy, selectors, left):
    options = {} if strategy == 'bipartite' else dict(filter=False, motion=False)
    model = Steps(*selectors, merging('frame', strategy, **options),
                  merging('clip', strategy, **options)).eval()
    if strategy == 'orthogonal':
        for merge in model.reducers[-2:]:  # its outputs are averages of its inputs
            nn.init.eye_(merge.phi.weight)
    x = torch.randn(2, 72, 4)
    with MergeTrace(model) as trace:
        y = model(x, (3, 4, 6))
    for sample in range(2):
        merged = trace.merged(sample, (3, 4, 6))
        weight = torch.from_numpy(merged.weight).flatten(1).float()
        torch.testing.assert_close(weight @ x[sample], y[sample])
        gone = (weight.sum(0) == 0).view(3, 4, 6).numpy()
        np.testing.assert_array_equal(merged.tokens == -1, gone)
        assert (~gone).sum() == left
        held = merged.weight.max(0)[~gone]
        where = tuple(np.argwhere(~gone).T)
        np.testing.assert_array_equal(merged.weight[(merged.tokens[~gone], *where)],
                                      held)
        # a token holds the patch that it stems from
        assert all(row[tuple(place)] > 0
                   for row, place in zip(merged.weight, merged.meta, strict=True))


def test_mistakes_and_hooks():
    with pytest.raises(ValueError, match='Linear holds no merge to watch'):
        MergeTrace(nn.Linear(2, 2))
    with pytest.raises(ValueError, match='no TokenMerging among its reducers'):
        MergeTrace(Steps(TemporalSelection(4, 0.5), TokenMerging(4, 0)))
    model, x = by_hand(), torch.randn(2, 8, 4)
    with MergeTrace(model) as trace:
        with pytest.raises(ValueError, match='0 calls of 2 watched modules'):
            trace.merged(0, (2, 1, 4))
        model(x, (2, 1, 4))
        with pytest.raises(ValueError, match='was given 8 tokens of a clip, by the '
                                             'grid there are 16'):
            trace.merged(0, (2, 2, 4))
        for sample in (2, -1):
            with pytest.raises(ValueError, match=f'sample {sample}: the batch had 2'):
                trace.merged(sample, (2, 1, 4))
        model(x, (2, 1, 4))
        with pytest.raises(ValueError, match='4 calls of 2 watched modules'):
            trace.merged(0, (2, 1, 4))
        trace.clear()
        model(x, (2, 1, 4))
        assert len(trace.merged(0, (2, 1, 4)).meta) == 2
    assert not model.reducers[0]._forward_hooks
    assert not model.reducers[0].choose._forward_hooks


def test_grids_of_hosts():
    frames = ReducedTimeSformer(num_frames=4, img_size=(32, 48), patch_size=8,
                                embed_dims=24, num_heads=3, num_transformer_layers=1)
    assert token_grid(frames, (4, 32, 48)) == (4, 4, 6)
    tubes = ReducedViT(img_size=32, patch_size=8, embed_dims=24, depth=1, num_heads=3,
                       num_frames=4)
    assert token_grid(nn.Sequential(tubes), (4, 32, 48)) == (2, 4, 6)
    with pytest.raises(ValueError, match='Linear has no patch_embed.projection'):
        token_grid(nn.Linear(2, 2), (4, 32, 48))
