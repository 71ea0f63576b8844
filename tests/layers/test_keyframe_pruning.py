# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Which tokens are pruned, by hand, by a naive loop, and by random draws."""
import copy

import pytest
import torch
from torch.testing import assert_close

from mmaction_tokenreduce.layers import KeyframePruning, SelectionError
from mmaction_tokenreduce.ops import grid_places

B, THW, C = 2, (4, 2, 3), 5
N, KEY = 24, range(12, 18)  # frame 2 of 4


def marked(batch=B, count=N):
    """Tokens that say who they are: token j of clip b holds 100 b + j in channel 0."""
    x = torch.randn(batch, count, C)
    x[..., 0] = torch.arange(count) + 100 * torch.arange(batch).unsqueeze(1)
    return x


def shuffled():
    """Marked tokens in some order, each with its place."""
    order = torch.stack([torch.randperm(N) for _ in range(B)])
    return marked().take_along_dim(order.unsqueeze(-1), 1), order


def watched(pruning):
    decisions = []
    pruning.choose.register_forward_hook(lambda module, args, out:
                                         decisions.append(out))
    return decisions


def naive(importance, places, keep, unified=False):
    """Places that are kept of one clip, in their order."""
    count = -(-round(keep * 1000) * len(places) // 1000)
    pairs = [(value, -i, place) for i, (value, place) in
             enumerate(zip(importance.tolist(), places.tolist(), strict=True))]
    own = [] if unified else [place for place in places.tolist() if place in KEY]
    others = [pair for pair in pairs if pair[2] not in own]
    ranked = [place for *_, place in sorted(others, reverse=True)]
    return own + ranked[:count - len(own)], ranked[count - len(own):]


@pytest.mark.parametrize('unified', [False, True])
@pytest.mark.parametrize('keep', [0.9, 0.7, 0.3])
def test_the_most_important_are_kept_each_at_its_place(keep, unified):
    pruning, importance = KeyframePruning(keep, unified=unified), torch.rand(B, N)
    importance[:, 3] = importance[:, 7]  # of equals the one that stands first
    x, places = shuffled()
    got, pruned = pruning(x, places, THW, importance)
    for b in range(B):
        kept, dropped = naive(importance[b], places[b], keep, unified)
        assert pruned.places[b].tolist() == kept
        assert (got[b, :, 0] - 100 * b).tolist() == kept
        assert pruned.dropped_places[b].tolist() == dropped
        assert (pruned.dropped[b, :, 0] - 100 * b).tolist() == dropped
        assert torch.equal(places[b, pruned.index[b]], pruned.places[b])
        rows = {int(row[0]): row for row in x[b]}
        for row in (*got[b], *pruned.dropped[b]):
            assert torch.equal(rows[int(row[0])], row)


def test_a_worked_example():
    """Two places a frame, three frames: keyframe 2 and 3; ceil(0.7 * 6) = 5."""
    x, places = marked(1, 6), grid_places(1, (3, 1, 2), 'cpu')
    importance = torch.tensor([[0.3, 0.1, 0.0, 0.0, 0.2, 0.4]])
    pruning = KeyframePruning(0.7)
    got, pruned = pruning(x, places, (3, 1, 2), importance)
    assert pruned.places.tolist() == [[2, 3, 5, 0, 4]]
    assert pruned.dropped_places.tolist() == [[1]]
    # then ceil(0.7 * 5) = 4, ranked anew
    got, pruned = pruning(got, pruned.places, (3, 1, 2),
                          torch.tensor([[0.0, 0.0, 0.1, 0.3, 0.2]]))
    assert pruned.places.tolist() == [[2, 3, 0, 4]] == got[..., 0].long().tolist()
    # and ceil(0.7 * 4) = 3, of which the keyframe has 2
    got, pruned = pruning(got, pruned.places, (3, 1, 2),
                          torch.tensor([[0.0, 0.0, 0.1, 0.3]]))
    assert pruned.places.tolist() == [[2, 3, 4]] == got[..., 0].long().tolist()
    with pytest.raises(SelectionError, match=(
            'KeyframePruning: keep=0.6 leaves 2 of 3 tokens, and the keyframe alone has'
            ' 2: no token of another frame would be left; keep more, or prune fewer')):
        KeyframePruning(0.6)(got, pruned.places, (3, 1, 2), torch.rand(1, 3))


def test_queries_of_the_keyframe_weigh_more():
    places = torch.tensor([[11, 12, 17, 18], [13, 0, 14, 23]])
    pruning = KeyframePruning(0.6, keyframe_weight=4)
    assert pruning.query_weight(places, THW).tolist() == [[1, 4, 4, 1], [4, 1, 4, 1]]
    assert KeyframePruning(0.6).query_weight(places, THW) is None


def test_padding_goes_first():
    importance, valid = torch.rand(1, N), torch.ones(1, N, dtype=torch.bool)
    importance[:, [0, 5, 20]] = 2  # whatever garbage it holds
    valid[:, [0, 5, 20, 12]] = False  # 12 is of the keyframe
    _, pruned = KeyframePruning(0.85)(marked(1), grid_places(1, THW, 'cpu'), THW,
                                      importance, valid)
    assert pruned.dropped_places.tolist() == [[0, 5, 20]]
    assert pruned.places[0, :6].tolist() == list(KEY)


@pytest.mark.parametrize('strategy', ['attention', 'random'])
def test_keeping_all_is_the_identity(strategy):
    x, places = shuffled()
    got, pruned = KeyframePruning(1, strategy=strategy)(x, places, THW)
    assert got is x and pruned is None


def test_random_pruning_is_fixed_in_evaluation_and_drawn_in_training():
    pruning = KeyframePruning(0.5, strategy='random').eval()
    x, places = marked(), grid_places(B, THW, 'cpu')
    first = pruning(x, places, THW)[1]
    assert torch.equal(pruning(x[1:], places[1:], THW)[1].index, first.index[1:])
    assert torch.equal(first.index[0], first.index[1])
    assert first.places[0, :6].tolist() == list(KEY)
    others = first.places[0, 6:].sort().values
    assert others.tolist() != list(range(others[0], others[0] + 6))  # all over the clip
    pruning.train()
    drawn, times = torch.zeros(N), 400
    for _ in range(times):
        index = pruning(x, places, THW)[1].places
        assert index[:, :6].tolist() == [list(KEY)] * B
        drawn += torch.bincount(index.flatten(), minlength=N)
    want = torch.full((N, ), 6 / 18)
    want[12:18] = 1
    assert_close(drawn / times / B, want, rtol=0, atol=0.08)


@pytest.mark.parametrize('kwargs', [dict(), dict(strategy='random'),
                                    dict(unified=True)], ids=str)
def test_a_hook_sees_the_decision(kwargs):
    pruning = KeyframePruning(0.5, **kwargs)
    decisions, (x, places), importance = watched(pruning), shuffled(), torch.rand(B, N)
    got, pruned = pruning(x, places, THW, importance)
    (decision, ) = decisions
    assert decision.index.dtype == torch.int64 and decision.importance.shape == (B, N)
    assert torch.equal(x.take_along_dim(decision.index.unsqueeze(-1), 1), got)
    both = torch.cat((decision.index, decision.dropped), 1).sort(1).values
    assert both.tolist() == [list(range(N))] * B
    assert torch.equal(pruned.index, decision.index)


def test_gradients_reach_kept_and_dropped_values():
    x, places = shuffled()
    x.requires_grad_()
    importance = torch.rand(B, N, requires_grad=True)
    got, pruned = KeyframePruning(0.5)(x, places, THW, importance)
    (got.sum() + 2 * pruned.dropped.sum()).backward()
    want = torch.full((B, N), 2.0).scatter(1, pruned.index, 1.0)
    assert_close(x.grad, want.unsqueeze(-1).expand(-1, -1, C))
    assert importance.grad is None  # what ranks is not learned


def test_keeps_nothing_between_calls():
    pruning = KeyframePruning(0.5)
    twin = copy.deepcopy(pruning)
    x, places = shuffled()
    importance = torch.rand(B, N)
    first = pruning(x, places, THW, importance)[0]
    pruning(x.flip(1), places.flip(1), THW, torch.rand(B, N))
    assert torch.equal(pruning(x, places, THW, importance)[0], first)
    assert torch.equal(twin(x, places, THW, importance)[0], first)
    assert not list(pruning.parameters()) and not list(pruning.buffers())


@pytest.mark.parametrize('kwargs,message', [
    (dict(keep=0), r'keep=0: must be a number in \(0, 1\]'),
    (dict(keep=1.2), 'keep=1.2: must be'),
    (dict(keep=True), 'keep=True: must be'),
    (dict(keep='0.7'), "keep='0.7': must be"),
    (dict(keyframe_weight=0), 'keyframe_weight=0: must be a finite number above 0'),
    (dict(keyframe_weight=float('inf')), 'keyframe_weight=inf: must be'),
    (dict(strategy='cls'), "strategy='cls': allowed are attention, random"),
    (dict(strategy='random', keyframe_weight=4), 'keyframe_weight=4 has no use with str'
     "ategy='random': leave it out"),
    (dict(unified='yes'), "unified='yes': allowed are True, False"),
])
def test_bad_options(kwargs, message):
    with pytest.raises(ValueError, match=f'^KeyframePruning: {message}'):
        KeyframePruning(**kwargs)


@pytest.mark.parametrize('changes,message', [
    (dict(importance=None), "strategy='attention' needs importance"),
    (dict(importance=torch.rand(B, 3)), r'importance of shape \(2, 3\) does not fit tok'
     r'ens of shape \(2, 24, 5\)'),
    (dict(places=torch.zeros(1, N)), r'places of shape \(1, 24\) does not fit'),
    (dict(valid=torch.ones(B, 6).bool()), r'valid of shape \(2, 6\) does not fit'),
    (dict(x=torch.rand(N, C)), r'x must be \(B, N, C\), got shape \(24, 5\)'),
])
def test_bad_input(changes, message):
    given = dict(x=marked(), places=grid_places(B, THW, 'cpu'), thw=THW,
                 importance=torch.rand(B, N))
    with pytest.raises(ValueError, match=f'^KeyframePruning: {message}'):
        KeyframePruning(0.5)(**given | changes)


def test_unified_pruning_can_drop_the_keyframe():
    importance = torch.rand(B, N) + 1
    importance[:, 12:18] = 0
    _, pruned = KeyframePruning(0.1, unified=True)(marked(), grid_places(B, THW, 'cpu'),
                                                   THW, importance)
    assert pruned.places.shape == (B, 3)
    assert not torch.isin(pruned.places, torch.tensor(list(KEY))).any()
