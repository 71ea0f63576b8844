# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What a model kept, seen through hooks."""
import numpy as np
import pytest
import torch

from mmaction_tokenreduce.layers import SpatialSelection, TemporalSelection
from mmaction_tokenreduce.visualization import SelectionTrace


class Steps(torch.nn.Module):
    """Reducers one after another, as a host would run them."""

    def __init__(self, *reducers):
        super().__init__()
        self.reducers = torch.nn.ModuleList(reducers)

    def forward(self, x, thw):
        for reducer in self.reducers:
            x, thw = reducer(x, thw)
        return x, thw


def numbered(t, h, w):
    """Tokens (1, t * h * w, 4) that hold their own place and a random value."""
    places = torch.meshgrid(*map(torch.arange, (t, h, w)), indexing='ij')
    tokens = torch.stack((*places, torch.randn(t, h, w)), -1)
    return tokens.flatten(0, 2).unsqueeze(0)


@pytest.mark.parametrize('spatial', [
    [dict(anchor=(6, 6)), dict(anchor=(3, 3))],
    [dict(anchor=(6, 6)), dict(anchor=(3, 2), strategy='random')],
    [dict(keep=0.5, unit='token')],
    [dict(keep=0.5, unit='token'), dict(anchor=(2, 3))],
    [dict(anchor=(6, 6), score='anchor'), dict(keep=0.3, unit='token')],
])
def test_every_place_that_is_left_is_the_one_its_token_holds(spatial):
    model = Steps(TemporalSelection(4, 0.5),
                  *(SpatialSelection(4, **options) for options in spatial)).eval()
    x = numbered(6, 8, 9)
    x = torch.cat((x, x.roll(2 * 72, 1)))  # the second clip starts two frames later
    with SelectionTrace(model) as trace:
        y, thw = model(x, (6, 8, 9))
    for sample in range(2):
        kept = trace.kept(sample)
        left = y[sample].view(*thw, 4).numpy()
        assert kept.num_frames == 6 and len(kept.frames) == thw[0] == 3
        assert [(frame - 2 * sample) % 6 for frame in kept.frames] == (
            left[:, 0, 0, 0].tolist())
        assert kept.cells.shape == (*thw, 4)
        corner = kept.cells * [8, 9, 8, 9]
        np.testing.assert_allclose(corner[..., :2], left[..., 1:3], atol=1e-5)
        np.testing.assert_allclose(corner[..., 2:], left[..., 1:3] + 1, atol=1e-5)


def test_scores_of_frames_and_maps_of_places():
    first, second = TemporalSelection(4, 0.67), TemporalSelection(
        4, 0.5, strategy='gumbel')  # ranks raw scores
    region, token = SpatialSelection(4, anchor=(2, 2)), SpatialSelection(
        4, anchor=(1, 1), unit='token')
    model = Steps(first, region, second, token).eval()
    with SelectionTrace(model) as trace:
        model(numbered(6, 3, 4), (6, 3, 4))
    kept = trace.kept(0)
    seen = [t for t in range(6) if not np.isnan(kept.scores[1][t])]
    assert len(kept.scores) == 2 and len(seen) == 4 and len(kept.frames) == 2
    assert sorted(kept.scores[0], reverse=True)[:4] == sorted(
        (kept.scores[0][t] for t in seen), reverse=True)
    for row in kept.scores:
        ranked = [score for score in row if not np.isnan(score)]
        assert (min(ranked), max(ranked)) == (0, 1)
    best = sorted(seen, key=lambda t: -kept.scores[1][t])[:2]
    assert sorted(best) == kept.frames
    regions, tokens = kept.maps
    assert (regions.unit, tokens.unit) == ('anchor', 'token')
    assert list(regions.scores) == seen and list(tokens.scores) == kept.frames
    for ranked, counts in ((regions, (2, 3)), (tokens, (2, 2))):
        for frame, scores in ranked.scores.items():
            assert scores.shape == counts
            (chosen, ) = ranked.chosen[frame]
            assert scores[chosen] == scores.max() == 1


def test_random_choices_have_no_scores():
    model = Steps(TemporalSelection(4, 0.5, strategy='uniform'),
                  SpatialSelection(4, keep=0.5, strategy='random'))
    with SelectionTrace(model) as trace:
        model(torch.randn(1, 4 * 36, 4), (4, 6, 6))
    kept = trace.kept(0)
    assert kept.frames == [0, 3] and kept.scores == [] and kept.maps == []


def test_equal_scores_are_zero():
    model = Steps(TemporalSelection(4, 0.5))
    with SelectionTrace(model) as trace:
        model(torch.zeros(1, 4, 4), (4, 1, 1))
    assert trace.kept(0).scores == [[0, 0, 0, 0]]


def test_everything_kept():
    model = Steps(TemporalSelection(4, 1), SpatialSelection(4, 1))
    with SelectionTrace(model) as trace:
        model(torch.randn(1, 12, 4), (3, 2, 2))
    kept = trace.kept(0)
    assert kept.frames == [0, 1, 2] and kept.boxes == [(0, 0, 1, 1)] * 3
    assert kept.summary() == '3 of 3 frames (100% of the clip)'
    assert kept.scores == [] and kept.maps == []


def test_no_hooks_are_left_behind_and_errors():
    with pytest.raises(ValueError, match='Linear holds no selector to watch'):
        SelectionTrace(torch.nn.Linear(2, 2))
    model = Steps(TemporalSelection(4, 0.5))
    with SelectionTrace(model) as trace:
        with pytest.raises(ValueError, match='0 calls of 1 selectors'):
            trace.kept(0)
        model(torch.randn(1, 8, 4), (2, 2, 2))
        model(torch.randn(1, 8, 4), (2, 2, 2))
    with pytest.raises(ValueError, match='2 calls of 1 selectors'):
        trace.kept(0)
    assert not model.reducers[0]._forward_hooks


def test_frames_pooled_between_selectors_are_refused():
    first, second = TemporalSelection(4, 0.5), SpatialSelection(4, 0.5)
    with SelectionTrace(Steps(first, second)) as trace:
        first(torch.randn(1, 8 * 4, 4), (8, 2, 2))
        second(torch.randn(1, 2 * 4, 4), (2, 2, 2))
    with pytest.raises(ValueError, match='4 token frames became 2 between two selec'):
        trace.kept(0)
