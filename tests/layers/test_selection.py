# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Selectors: what they choose, what they pass on, what they refuse."""
import copy

import pytest
import torch
from torch.testing import assert_close

from mmaction_tokenreduce.layers import (
    Carried,
    PerturbedTopK,
    SpatialSelection,
    TemporalSelection,
    min_max_normalize,
)
from mmaction_tokenreduce.ops import Places

THW, CHANNELS = (8, 6, 9), 8


def tokens(batch=2, thw=THW, extra=1):
    return torch.randn(batch, extra + thw[0] * thw[1] * thw[2], CHANNELS)


def observe(module):
    """Choices of a selector, seen by a standard forward hook."""
    seen = []
    module.choose.register_forward_hook(lambda mod, args, out: seen.append(out))
    return seen


@pytest.mark.parametrize('feature', ['mean_max', 'mean'])
@pytest.mark.parametrize('net', ['released', 'paper'])
def test_temporal_selection_keeps_the_best_frames(feature, net):
    module = TemporalSelection(CHANNELS, 0.5, score_net=net, frame_feature=feature)
    module.eval()
    seen, x = observe(module), tokens()
    y, thw = module(x, THW)
    frames = x[:, 1:].view(2, 8, 54, CHANNELS)
    parts = [frames.mean(2)] + ([frames.amax(2)] if feature == 'mean_max' else [])
    scores = module.score_net(torch.cat(parts, -1))
    assert thw == (4, 6, 9)
    for b in range(2):
        best = sorted(scores[b].argsort(descending=True)[:4].tolist())
        assert seen[0].index[b].tolist() == best
        assert_close(y[b, 1:].view(4, 54, CHANNELS), frames[b, best])
    assert_close(y[:, 0], x[:, 0])
    assert_close(seen[0].scores, min_max_normalize(scores))


def test_spatial_selection_keeps_the_best_region_of_each_frame():
    module = SpatialSelection(CHANNELS, 0.4).eval()
    seen, x = observe(module), tokens()
    y, thw = module(x, THW)
    assert thw == (8, 3, 5)  # isqrt(21 * 6 / 9), isqrt(21 * 9 / 6)
    frames = x[:, 1:].reshape(16, 54, CHANNELS)
    maps = module.score_net(frames).view(16, 6, 9)
    frames, kept = frames.view(16, 6, 9, CHANNELS), y[:, 1:].reshape(16, 3, 5, CHANNELS)
    corners = [(r, c) for r in (0, 1, 2, 3) for c in (0, 2, 4)]
    for m in range(16):
        means = [maps[m, r:r + 3, c:c + 5].mean() for r, c in corners]
        best = int(torch.stack(means).argmax())
        r, c = corners[best]
        assert seen[0].index[m].item() == best
        assert_close(kept[m], frames[m, r:r + 3, c:c + 5])


@pytest.mark.parametrize('kind', [TemporalSelection, SpatialSelection])
@pytest.mark.parametrize('amp', [False, True])
def test_training_at_sigma_zero_equals_evaluation(kind, amp):
    module = kind(CHANNELS, keep=0.5, strategy_cfg=dict(sigma=0.0))
    x = tokens()
    with torch.autocast('cpu', torch.bfloat16, enabled=amp):
        assert_close(module.train()(x, THW)[0], module.eval()(x, THW)[0])


@pytest.mark.parametrize('kind', [TemporalSelection, SpatialSelection])
@pytest.mark.parametrize('net', ['released', 'paper'])
def test_every_parameter_gets_a_gradient(kind, net):
    module, x = kind(CHANNELS, keep=0.5, score_net=net), tokens().requires_grad_()
    module(x, THW)[0].square().sum().backward()
    assert x.grad.abs().sum() > 0
    for name, parameter in module.named_parameters():
        last_bias = name in ('score_net.head.4.bias', 'score_net.head.bias')
        # Min-max normalisation takes out what is added to all scores alike.
        assert last_bias or parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize('module', [
    TemporalSelection(CHANNELS, 1), TemporalSelection(CHANNELS, 1.0, 'random'),
    SpatialSelection(CHANNELS, 1), SpatialSelection(CHANNELS, anchor=(6, 9))
], ids=repr)
@pytest.mark.parametrize('training', [True, False])
def test_keeping_all_is_the_identity(module, training):
    x = tokens()
    y, thw = module.train(training)(x, THW)
    assert torch.equal(x, y) and thw == THW
    if module.keep == 1:
        assert not list(module.parameters())  # none that would stay without gradient


def test_random_selection_is_uniform_over_frames_and_needs_no_scores():
    module = TemporalSelection(CHANNELS, 0.375, 'random')
    assert module.score_net is None
    seen = observe(module)
    module(tokens(batch=4000, thw=(8, 1, 1)), (8, 1, 1))
    share = seen[0].index.flatten().bincount(minlength=8) / 4000
    assert_close(share, torch.full((8, ), 0.375), rtol=0.1, atol=0)


def test_uniform_selection():
    module = TemporalSelection(CHANNELS, 0.5, 'uniform')
    seen = observe(module)
    module(tokens(), THW)
    assert seen[0].index.tolist() == [[0, 2, 4, 7]] * 2  # trunc(linspace(0, 7, 4))


def test_random_region_differs_between_frames():
    module = SpatialSelection(CHANNELS, 0.4, strategy='random')
    seen = observe(module)
    y, thw = module(tokens(batch=8), THW)
    assert y.shape == (8, 1 + 8 * 15, CHANNELS) and len(set(
        seen[0].index.flatten().tolist())) > 4


def test_places_follow_the_choice():
    temporal = TemporalSelection(CHANNELS, 0.25).eval()
    spatial = SpatialSelection(CHANNELS, 0.4).eval()
    first, second = observe(temporal), observe(spatial)
    x = tokens()
    places = Places.of_full_grid(2, THW, x.device)
    y, thw, carried = temporal(x, THW, Carried(places))
    y, thw, (places, attention, positions) = spatial(y, thw, carried)
    assert attention is None and positions is None
    assert places.frame.tolist() == first[0].index.tolist()
    anchor = second[0].index.view(2, 2)
    assert places.top.tolist() == (anchor // 3).float().tolist()
    assert places.left.tolist() == (anchor % 3 * 2).float().tolist()
    full = x[:, 1:].view(2, *THW, CHANNELS)
    for b in range(2):
        for k in range(2):
            t, r, c = (int(part[b, k]) for part in places[:3])
            assert_close(y[b, 1:].view(2, 3, 5, CHANNELS)[k],
                         full[b, t, r:r + 3, c:c + 5])


def test_works_under_autocast_and_without_extra_tokens():
    module, x = TemporalSelection(CHANNELS, 0.5), tokens(extra=0)
    with torch.autocast('cpu', torch.bfloat16):
        module(x, THW)[0].float().sum().backward()
    assert module.score_net.embed.weight.grad.isfinite().all()


def test_sigma_is_a_buffer_outside_checkpoints():
    module = PerturbedTopK(sigma=0.2)
    assert 'sigma' not in module.state_dict()
    module.sigma.fill_(0.05)
    assert copy.deepcopy(module).sigma == module.sigma
    assert module.to(torch.float64).sigma.dtype == torch.float64


def test_checkpointing_repeats_the_same_noise():
    module, x = TemporalSelection(CHANNELS, 0.5), tokens().requires_grad_()
    grads = []
    for use_checkpoint in (False, True):
        torch.manual_seed(3)
        if use_checkpoint:
            y = torch.utils.checkpoint.checkpoint(
                lambda x: module(x, THW)[0], x, use_reentrant=False)
        else:
            y = module(x, THW)[0]
        module.zero_grad()
        y.square().sum().backward()
        grads.append(module.score_net.embed.weight.grad.clone())
    assert_close(grads[0], grads[1], rtol=0, atol=0)


@pytest.mark.parametrize('training', [True, False])
def test_compiles_without_a_graph_break(training):
    module = SpatialSelection(CHANNELS, 0.4).train(training)
    x = tokens()
    compiled = torch.compile(module, backend='aot_eager', fullgraph=True)
    torch.manual_seed(5)
    want = module(x, THW)[0]
    torch.manual_seed(5)
    assert_close(compiled(x, THW)[0], want)


@pytest.mark.parametrize('kind,kwargs,message', [
    (TemporalSelection, dict(keep=0), r'keep=0 is outside \(0, 1\]'),
    (TemporalSelection, dict(keep=1.2), r'keep=1.2 is outside \(0, 1\]'),
    (SpatialSelection, dict(keep=-0.5), r'keep=-0.5 is outside \(0, 1\]'),
    (SpatialSelection, dict(), 'either keep or anchor, got keep=None, anchor=None'),
    (SpatialSelection, dict(keep=0.5, anchor=3), 'either keep or anchor'),
    (SpatialSelection, dict(anchor=7.5), 'anchor=7.5: must be one or two numbers'),
    (SpatialSelection, dict(anchor=(2, 2, 2)), 'must be one or two numbers of places'),
    (SpatialSelection, dict(anchor=0), 'anchor=0: must be one or two numbers'),
    (SpatialSelection, dict(keep=0.5, strategy='uniform'),
     r"strategy='uniform' \(regions of a frame have no .* allowed are perturbed_topk, "
     'random, cls_attention$'),
    (SpatialSelection, dict(keep=0.5, strategy='gumbel'),
     r"strategy='gumbel' \(it draws frames; N/A for regions in Table 1"),
    (SpatialSelection, dict(keep=0.5, unit='pixel'), "unit='pixel': allowed are"),
    (SpatialSelection, dict(keep=0.5, score='frame'), "score='frame': allowed are"),
    (SpatialSelection, dict(keep=0.5, unit='token', score='anchor'),
     "score='anchor' needs unit='anchor'"),
    (TemporalSelection, dict(keep=0.5, strategy='gumbel', strategy_cfg=dict(tau=0)),
     'tau=0: must be positive'),
    (TemporalSelection, dict(keep=0.5, strategy='best'), "strategy='best': allowed"),
    (TemporalSelection, dict(keep=0.5, strategy=['random']), r"strategy=\['random'\]"),
    (TemporalSelection, dict(keep='a'), "keep='a': must be a number in"),
    (TemporalSelection, dict(keep=True), 'keep=True: must be a number in'),
    (SpatialSelection, dict(anchor=True), 'anchor=True: must be one or two numbers'),
    (TemporalSelection, dict(keep=0.5, strategy='random', score_net='paper'),
     "score_net='paper' has no use with strategy='random', which learns no scores"),
    (TemporalSelection, dict(keep=0.5, strategy='uniform', frame_feature='mean'),
     "frame_feature='mean' has no use with strategy='uniform'"),
    (SpatialSelection, dict(keep=0.5, strategy='cls_attention', score='anchor'),
     "score='anchor' has no use with strategy='cls_attention'"),
    (TemporalSelection, dict(keep=0.5, strategy_cfg=dict(sigma=float('nan'))),
     'sigma=nan: must'),
    (TemporalSelection, dict(keep=0.5, strategy_cfg=dict(num_samples=2.5)),
     'num_samples=2.5: a whole number of at least 2'),
    (TemporalSelection, dict(keep=0.5, score_net='deep'), "score_net='deep': allowed"),
    (TemporalSelection, dict(keep=0.5, frame_feature='max'), "frame_feature='max'"),
    (TemporalSelection, dict(keep=0.5, strategy_cfg=dict(sigma=-1)), 'sigma=-1: must'),
    (TemporalSelection, dict(keep=0.5, strategy_cfg=dict(gradient='x')),
     "gradient='x'"),
    (TemporalSelection, dict(keep=0.5, strategy_cfg=dict(num_samples=1)), 'at least 2'),
    (TemporalSelection, dict(keep=0.5, strategy='random', strategy_cfg=dict(sigma=1)),
     "strategy_cfg=.* does not fit strategy='random'"),
])
def test_bad_options(kind, kwargs, message):
    with pytest.raises(ValueError, match=message):
        kind(CHANNELS, **kwargs)


def test_a_ratio_that_leaves_no_frame():
    with pytest.raises(ValueError, match=r'keep=0.1 leaves none of 8 token frames: at '
                       r'least 0.125 is needed'):
        TemporalSelection(CHANNELS, 0.1)(tokens(), THW)


@pytest.mark.parametrize('kwargs,message', [
    (dict(anchor=7), r'anchor=\(7, 7\): an anchor of 7x7 .* a grid of 6x9'),
    (dict(keep=0.01), r'keep=0.01: an anchor of 0x0 .* a grid of 6x9'),
])
def test_an_anchor_that_does_not_fit(kwargs, message):
    with pytest.raises(ValueError, match=message):
        SpatialSelection(CHANNELS, **kwargs)(tokens(), THW)
