# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""The baselines of Table 1 and the spatial ablations of Table 6 (STTS)."""
import pytest
import torch
from torch.testing import assert_close

from mmaction_tokenreduce.layers import (
    Carried,
    GumbelTopK,
    SpatialSelection,
    TemporalSelection,
    min_max_normalize,
)
from mmaction_tokenreduce.ops import Places, gumbel_topk

THW, CHANNELS = (4, 6, 8), 8
PLACES = 4 * 6 * 8


def tokens(batch=2, extra=1):
    return torch.randn(batch, extra + PLACES, CHANNELS)


def observe(module):
    seen = []
    module.choose.register_forward_hook(lambda mod, args, out: seen.append(out))
    return seen


def test_class_attention_keeps_the_frames_it_rests_on():
    module = TemporalSelection(CHANNELS, 0.5, strategy='cls_attention')
    assert module.needs_cls_attention and not list(module.parameters())
    attention, x = torch.rand(2, PLACES), tokens()
    y, thw, carried = module(x, THW, Carried(cls_attention=attention))
    means = attention.view(2, 4, 48).mean(2)
    assert thw == (2, 6, 8)
    for b in range(2):
        best = sorted(means[b].argsort(descending=True)[:2].tolist())
        assert_close(y[b, 1:], x[b, 1:].view(4, 48, CHANNELS)[best].flatten(0, 1))
        assert_close(carried.cls_attention[b], attention[b].view(4, 48)[best].flatten())


def test_class_attention_keeps_the_regions_it_rests_on():
    module = SpatialSelection(CHANNELS, anchor=(3, 4), strategy='cls_attention')
    seen, attention = observe(module), torch.rand(2, PLACES)
    module(tokens(), THW, Carried(cls_attention=attention))
    maps = attention.view(8, 6, 8)
    for m in range(8):
        means = [maps[m, r:r + 3, c:c + 4].mean() for r in (0, 1, 2, 3)
                 for c in (0, 2, 4)]
        assert seen[0].index[m].item() == int(torch.stack(means).argmax())


def test_class_attention_follows_a_selector_at_the_same_place():
    temporal = TemporalSelection(CHANNELS, 0.5, strategy='cls_attention')
    spatial = SpatialSelection(CHANNELS, anchor=(3, 4), strategy='cls_attention')
    attention, x = torch.rand(2, PLACES), tokens()
    x, thw, carried = temporal(x, THW, Carried(cls_attention=attention))
    seen = observe(spatial)
    _, thw, carried = spatial(x, thw, carried)
    assert thw == (2, 3, 4) and carried.cls_attention.shape == (2, 2 * 12)
    assert seen[0].index.shape == (4, 1)


def test_class_attention_that_is_not_handed_over():
    module = TemporalSelection(CHANNELS, 0.5, strategy='cls_attention')
    with pytest.raises(ValueError, match='needs the attention of a class token'):
        module(tokens(), THW)


def test_gumbel_selection_is_hard_in_value_and_soft_in_gradient():
    module = TemporalSelection(CHANNELS, 0.5, strategy='gumbel',
                               strategy_cfg=dict(tau=0.5)).train()
    seen, x = observe(module), tokens().requires_grad_()
    y, thw = module(x, THW)
    index = seen[0].index
    frames = x[:, 1:].view(2, 4, 48, CHANNELS)
    for b in range(2):
        assert_close(y[b, 1:], frames[b, index[b]].flatten(0, 1))
    y.square().sum().backward()
    for name, parameter in module.named_parameters():
        assert name.endswith('head.4.bias') or parameter.grad.abs().sum() > 0, name


def test_gumbel_selection_takes_the_best_in_evaluation():
    module = TemporalSelection(CHANNELS, 0.5, strategy='gumbel').eval()
    learned = TemporalSelection(CHANNELS, 0.5).eval()
    learned.load_state_dict(module.state_dict())
    x = tokens()
    assert_close(module(x, THW)[0], learned(x, THW)[0])


def test_gumbel_selection_ranks_raw_scores():
    """Normalised ones would fix how sure the score network can be."""
    module = TemporalSelection(CHANNELS, 0.5, strategy='gumbel')
    torch.nn.init.constant_(module.score_net.head[4].bias, 5.0)
    seen, x = observe(module), tokens()
    frames = x[:, 1:].view(2, 4, 48, CHANNELS)
    raw = module.score_net(torch.cat((frames.mean(2), frames.amax(2)), -1))
    for mode in (True, False):
        module.train(mode)(x, THW)
        assert_close(seen[-1].scores, raw)
        assert seen[-1].scores.min() > 3


def test_gumbel_gradients_are_those_of_the_temperature():
    loss_of, scores = torch.randn(2, 3, 6), torch.randn(2, 6)

    def gradient(choose):
        logits = scores.clone().requires_grad_()
        torch.manual_seed(3)
        (choose(logits) * loss_of).sum().backward()
        return logits.grad

    grads = {}
    for tau in (0.5, 2.0):
        module = GumbelTopK(tau).train()
        grads[tau] = gradient(lambda logits, module=module: module(logits, 3).weight)
        assert_close(grads[tau], gradient(
            lambda logits, tau=tau: gumbel_topk(logits, 3, tau)[1]))
    assert (grads[0.5] - grads[2.0]).abs().max() > 0.05
    # from the config to the strategy
    selector = TemporalSelection(CHANNELS, 0.5, strategy='gumbel',
                                 strategy_cfg=dict(tau=0.5)).train()
    assert_close(gradient(lambda logits: selector.choose(logits, 3).weight), grads[0.5])


def token_choice(module, x):
    """Scores of each frame's tokens, and its best 12 in their order."""
    frames = x[:, 1:].reshape(8, 48, CHANNELS)
    scores = module.score_net(frames)
    best = [sorted(row.argsort(descending=True)[:12].tolist()) for row in scores]
    return frames, scores, best


def test_token_selection_packs_the_best_tokens_of_each_frame():
    module = SpatialSelection(CHANNELS, anchor=(3, 4), unit='token').eval()
    seen, x = observe(module), tokens()
    y, thw = module(x, THW)
    frames, scores, best = token_choice(module, x)
    assert thw == (4, 3, 4)
    assert seen[0].index.tolist() == best
    assert_close(seen[0].scores, min_max_normalize(scores))
    want = torch.stack([frames[m, best[m]] for m in range(8)])
    assert_close(y[:, 1:].reshape(8, 12, CHANNELS), want)
    assert_close(y[:, 0], x[:, 0])


@pytest.mark.parametrize('amp', [False, True])
def test_token_selection_at_sigma_zero_equals_evaluation(amp):
    """Under autocast as well: taking tokens by a product rounds none of them."""
    module = SpatialSelection(CHANNELS, 0.3, unit='token', strategy_cfg=dict(sigma=0.0))
    x = tokens()
    with torch.autocast('cpu', torch.bfloat16, enabled=amp):
        trained, tested = module.train()(x, THW)[0], module.eval()(x, THW)[0]
    assert_close(trained, tested)
    assert trained.dtype == torch.float32


def test_token_selection_learns():
    module = SpatialSelection(CHANNELS, 0.3, unit='token').train()
    module(tokens(), THW)[0].square().sum().backward()
    for name, parameter in module.named_parameters():
        assert name.endswith('head.4.bias') or parameter.grad.abs().sum() > 0, name


def test_random_token_selection_is_uniform_over_places():
    module = SpatialSelection(CHANNELS, anchor=(3, 4), unit='token', strategy='random')
    seen = observe(module)
    module(tokens(batch=1500), THW)
    share = seen[0].index.flatten().bincount(minlength=48) / 6000
    assert_close(share, torch.full((48, ), 0.25), rtol=0.15, atol=0)


def test_token_selection_has_no_rows_for_relative_positions():
    module = SpatialSelection(CHANNELS, 0.3, unit='token')
    places = Places.of_full_grid(2, THW, torch.device('cpu'))
    with pytest.raises(ValueError, match="unit='token' leaves no rows or columns"):
        module(tokens(), THW, Carried(places))


def test_anchor_scores_come_from_mean_features():
    module = SpatialSelection(CHANNELS, anchor=(3, 4), score='anchor').eval()
    seen, x = observe(module), tokens()
    module(x, THW)
    maps = x[:, 1:].reshape(8, 6, 8, CHANNELS)
    feature = torch.stack([maps[:, r:r + 3, c:c + 4].mean((1, 2))
                           for r in (0, 1, 2, 3) for c in (0, 2, 4)], dim=1)
    want = min_max_normalize(module.score_net(feature))
    assert_close(seen[0].scores, want)
    assert seen[0].index.flatten().tolist() == want.argmax(1).tolist()
    by_token = SpatialSelection(CHANNELS, anchor=(3, 4)).eval()
    by_token.load_state_dict(module.state_dict())
    other = observe(by_token)
    by_token(x, THW)
    assert not torch.allclose(other[0].scores, want, atol=1e-3)


@pytest.mark.parametrize('module', [
    TemporalSelection(CHANNELS, 1, strategy='gumbel'),
    TemporalSelection(CHANNELS, 1, strategy='cls_attention'),
    SpatialSelection(CHANNELS, 1, strategy='cls_attention'),
    SpatialSelection(CHANNELS, 1, unit='token'),
    SpatialSelection(CHANNELS, 1, score='anchor'),
], ids=repr)
def test_keeping_all_is_the_identity(module):
    x = tokens()
    y, thw = module.train()(x, THW)
    assert torch.equal(x, y) and thw == THW
    assert not list(module.parameters()) and not module.needs_cls_attention
