# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""TokenMerging against the paper's equations (STTM, Sec. 3), and how it behaves."""
import copy

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from mmaction_tokenreduce.layers import Merge, SelectionError, TokenMerging
from mmaction_tokenreduce.ops import bipartite_match, orthogonal_select

ROWS, LENGTH, D = 3, 20, 8


def case(rows=ROWS, length=LENGTH):
    return (torch.randn(rows, length, D), torch.randn(rows, length, D),
            torch.rand(rows, length))


def observe(module):
    seen = []
    module.choose.register_forward_hook(lambda mod, args, out: seen.append(out))
    return seen


@pytest.mark.parametrize('temperature', [0.1, 0.5])
@pytest.mark.parametrize('axes', ['both', 'meta', 'input'])
def test_the_whole_module_by_the_equations(axes, temperature):
    module = TokenMerging(D, ratio=0.5, axes=axes, temperature=temperature).eval()
    seen, (x, positions, scores) = observe(module), case()
    y, moved = module(x, positions, scores)
    assert len(seen) == 1 and isinstance(seen[0], Merge)
    picked = orthogonal_select(x, 15, x.norm(dim=-1).argmax(1))  # ceil(1.5 * 10)
    for r in range(ROWS):
        best = sorted(picked[r].tolist(), key=lambda i: -scores[r, i])[:10]
        assert seen[0].index[r].tolist() == sorted(best)
        phi = F.normalize(module.phi(x[r]), dim=-1)
        c = phi @ phi[sorted(best)].T / temperature
        if axes != 'input':
            c = c.softmax(1)
        if axes == 'both':
            c = c / temperature
        c = c / c.sum(0) if axes == 'meta' else c.softmax(0)
        assert_close(seen[0].weight[r], c.T, rtol=1e-4, atol=1e-6)
        a, p = c.T @ x[r], c.T @ positions[r]
        assert_close(moved[r], p, rtol=1e-4, atol=1e-5)
        fused = torch.cat((a, p), -1) @ module.fuse.weight.T + module.fuse.bias
        assert_close(y[r], fused, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('strategy', ['orthogonal', 'random', 'bipartite'])
def test_ratio_0_is_the_identity_without_parameters(strategy):
    module = TokenMerging(D, ratio=0, strategy=strategy)
    seen, (x, positions, _) = observe(module), case()
    y, moved = module(x, positions)
    assert y is x and moved is positions and not seen
    assert not list(module.parameters())
    assert not module.needs_positions and not module.needs_scores


@pytest.mark.parametrize('length,ratio,count', [
    (196, 0.5, 98), (784, 0.5, 392), (196, 0.8, 39), (196, 0.6, 78), (196, 0.4, 117),
    (10, 0.9, 1), (100, 0.9, 10), (3, 0.5, 1), (20, 0.01, 19)])
def test_how_many_are_left(length, ratio, count):
    assert TokenMerging(D, ratio).kept_count(length) == count


def test_parameter_counts_of_table_6():
    """Two modules of D^2 + 2 D^2 and two biases: millions added to each host."""
    for width, dense, merged in ((384, 21.82, 22.7), (768, 86.11, 89.6)):
        added = 2 * sum(p.numel() for p in TokenMerging(width).parameters())
        assert added == 2 * (3 * width**2 + 2 * width)
        assert dense + added / 1e6 == pytest.approx(merged, rel=1e-3)


def test_positions_are_fused_in_only_with_motion():
    x, positions, scores = case()
    module = TokenMerging(D, motion=False).eval()
    seen = observe(module)
    assert module.fuse is None and not module.needs_positions
    y, moved = module(x, scores=scores)
    assert moved is None  # Table 1: Y = A, no fusion layer
    assert_close(y, seen[0].weight @ x)
    y2, moved = module(x, positions, scores)
    assert_close(y2, y)
    assert_close(moved, seen[0].weight @ positions)  # carried to the next merge
    other = TokenMerging(D).eval()
    fused, _ = other(x, positions, scores)
    assert not torch.equal(fused, other(x, positions + 1, scores)[0])


def test_without_the_filter_exactly_as_many_are_picked():
    x, positions, _ = case()
    module = TokenMerging(D, filter=False).eval()
    seen = observe(module)
    module(x, positions)
    picked = orthogonal_select(x, 10, x.norm(dim=-1).argmax(1))
    assert_close(seen[0].index, picked.sort(1).values)
    assert not module.needs_scores


@pytest.mark.parametrize('alpha,length,count', [
    (1, 20, 10), (1.1, 20, 11), (1.25, 20, 13), (1.5, 20, 15), (2.5, 20, 20),
    (1.1, 100, 55)])
def test_how_many_are_candidates(alpha, length, count):
    """1.1 * 50 is 55, though a little more in floating point."""
    x, positions, _ = case(length=length)
    module = TokenMerging(D, alpha=alpha).eval()
    seen = observe(module)
    picked = orthogonal_select(x, length, x.norm(dim=-1).argmax(1))
    scores = picked.argsort(dim=1).float()  # the later picked, the higher
    module(x, positions, scores)
    assert_close(seen[0].index, picked[:, count - length // 2:count].sort(1).values)


def test_all_tokens_are_candidates_at_a_low_ratio():
    x, positions, scores = case()
    module = TokenMerging(D, ratio=0.3)  # ceil(1.5 * 14) = 21 of 20
    seen = observe(module)
    module(x, positions, scores)
    assert_close(seen[0].index, scores.topk(14, dim=1).indices.sort(1).values)


def test_positions_for_all_rows_at_once():
    x, positions, scores = case()
    module = TokenMerging(D).eval()
    one = positions[:1]
    for given, expected in zip(module(x, one, scores),
                               module(x, one.expand(ROWS, -1, -1), scores),
                               strict=True):
        assert_close(given, expected)


def test_two_merges_in_a_row():
    frame, clip = TokenMerging(D).eval(), TokenMerging(D, scope='clip').eval()
    x, scores = torch.randn(2, 4 * 6, D), torch.rand(2, 4 * 6)
    positions = torch.randn(1, 4 * 6, D)
    y, moved = frame(frame.rows(x, 4), frame.rows(positions.expand_as(x), 4),
                     frame.rows(scores, 4))
    assert y.shape == moved.shape == (8, 3, D)
    assert clip.rows(x, 4) is x
    assert_close(frame.rows(x, 4)[5], x[1, 6:12])
    y, moved = y.view(2, 12, D), moved.view(2, 12, D)
    z, last = clip(y, moved, torch.rand(2, 12))
    assert z.shape == last.shape == (2, 6, D)
    with pytest.raises(ValueError, match='24 tokens are not 5 of them'):
        frame.rows(x, 5)


@pytest.mark.parametrize('strategy', ['orthogonal', 'random'])
def test_evaluation_repeats_and_is_independent_of_the_batch(strategy):
    module = TokenMerging(D, strategy=strategy).eval()
    seen, (x, positions, scores) = observe(module), case()
    y, _ = module(x, positions, scores)
    torch.manual_seed(123)
    state = torch.get_rng_state()
    assert_close(module(x, positions, scores)[0], y, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), state)  # nothing was drawn
    alone, _ = module(x[1:2], positions[1:2], scores[1:2])
    assert_close(alone, y[1:2])
    assert_close(seen[2].index, seen[0].index[1:2])


def test_evaluation_does_not_depend_on_the_order_of_the_tokens():
    module, (x, positions, scores) = TokenMerging(D).eval(), case()
    order = torch.randperm(LENGTH)
    y, _ = module(x, positions, scores)
    shuffled, _ = module(x[:, order], positions[:, order], scores[:, order])
    assert_close(shuffled.sum(1), y.sum(1))


@pytest.mark.parametrize('strategy', ['orthogonal', 'random'])
def test_training_draws(strategy):
    module, (x, positions, scores) = TokenMerging(D, strategy=strategy), case()
    seen = observe(module)
    for _ in range(5):
        module(x, positions, scores)
    assert any(not torch.equal(seen[0].index, other.index) for other in seen[1:])
    torch.manual_seed(7)
    first, _ = module(x, positions, scores)
    torch.manual_seed(7)
    assert_close(module(x, positions, scores)[0], first, rtol=0, atol=0)


def test_random_meta_tokens():
    module = TokenMerging(D, strategy='random', filter=False, ratio=0.9)
    seen, (x, positions, _) = observe(module), case(rows=2000)
    module(x, positions)
    counts = seen[0].index.flatten().bincount(minlength=LENGTH)  # 200 of each
    assert counts.min() > 140 and counts.max() < 260
    module.eval()(x, positions)
    assert len(seen[1].index.unique(dim=0)) == 1
    assert seen[1].index[0].tolist() not in ([0, 1], [18, 19])


def test_bipartite_matching_has_no_parameters():
    module = TokenMerging(D, ratio=0.7, strategy='bipartite')
    seen, (x, positions, _) = observe(module), case()
    y, moved = module(x, positions)
    index, weight = bipartite_match(x, 14)
    assert_close(seen[0].index, index)
    assert_close(seen[0].weight, weight)
    assert_close(y, weight @ x)
    assert_close(moved, weight @ positions)
    assert not list(module.parameters()) and module(x)[1] is None
    assert not module.needs_positions and not module.needs_scores


@pytest.mark.parametrize('axes', ['both', 'meta', 'input'])
@pytest.mark.parametrize('strategy', ['orthogonal', 'random', 'bipartite'])
def test_outputs_are_convex_combinations(strategy, axes):
    options = {} if strategy == 'bipartite' else dict(axes=axes)
    module = TokenMerging(D, strategy=strategy, **options)
    seen = observe(module)
    module(*case())
    weight = seen[0].weight
    assert (weight >= 0).all()
    assert_close(weight.sum(-1), torch.ones(ROWS, 10))


def test_gradients_reach_every_parameter_the_tokens_and_the_positions():
    module, (x, positions, scores) = TokenMerging(D), case()
    x, positions = x.requires_grad_(), positions.requires_grad_()
    y, moved = module(x, positions, scores.requires_grad_())
    (y.square().sum() + moved.square().sum()).backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad.abs().max() > 1e-6, name
    assert x.grad.abs().amax((0, 2)).min() > 0
    assert positions.grad.abs().max() > 0
    assert scores.grad is None  # the selection is not differentiated


def test_a_zero_token_trains():
    module, (x, positions, scores) = TokenMerging(D, init='identity'), case()
    x[:, 3] = 0  # so is phi of it
    module(x.requires_grad_(), positions, scores)[0].square().sum().backward()
    for leaf in (x, *module.parameters()):
        assert leaf.grad.abs().max() < 1e3


def test_a_token_of_nan_is_picked_last_in_evaluation():
    module, (x, positions, _) = TokenMerging(D, 0.05, filter=False).eval(), case()
    seen = observe(module)
    x[:, 3] = torch.nan
    module(x, positions)
    assert seen[0].index.tolist() == [[i for i in range(LENGTH) if i != 3]] * ROWS


@pytest.mark.parametrize('init', ['random', 'identity'])
def test_initial_values_can_be_set_again(init):
    module = TokenMerging(64, init=init)
    for parameter in module.parameters():
        torch.nn.init.constant_(parameter, 7)
    module.init_weights()
    for layer, fan_in in ((module.phi, 64), (module.fuse, 128)):
        if init == 'identity':
            assert_close(layer.weight.detach(), torch.eye(64, fan_in))
            assert not layer.bias.any()
        else:  # uniform in +- 1 / sqrt(fan_in)
            std = layer.weight.std().item()
            assert std == pytest.approx((3 * fan_in)**-0.5, rel=0.05)
            assert 0 < layer.bias.abs().max() <= fan_in**-0.5
    TokenMerging(D, strategy='bipartite').init_weights()  # has none


def test_starting_at_the_merged_averages():
    x, positions, scores = case()
    module = TokenMerging(D, init='identity').eval()
    seen = observe(module)
    y, _ = module(x, positions, scores)
    assert_close(module.phi(x), x)
    assert_close(y, seen[0].weight @ x)


def test_autocast_keeps_the_decision_and_the_stream_in_float32():
    module, (x, positions, scores) = TokenMerging(D).eval(), case()
    seen = observe(module)
    y, moved = module(x, positions, scores)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        y16, moved16 = module(x, positions, scores)
    assert_close(seen[1].index, seen[0].index)
    assert seen[1].weight.dtype == y16.dtype == moved16.dtype == torch.float32
    assert_close(seen[1].weight.sum(-1), torch.ones(ROWS, 10))
    assert_close(y16, y, rtol=0.1, atol=0.1)
    half = module.bfloat16()(x.bfloat16(), positions.bfloat16(), scores.bfloat16())
    assert half[0].dtype == half[1].dtype == torch.bfloat16


@pytest.mark.parametrize('reentrant', [False, True])
@pytest.mark.parametrize('strategy', ['orthogonal', 'random'])
def test_checkpointing_repeats_the_draw(strategy, reentrant):
    module, (x, positions, scores) = TokenMerging(D, strategy=strategy), case()
    grads = []
    for run in (module, lambda *args: checkpoint(module, *args,
                                                 use_reentrant=reentrant)):
        torch.manual_seed(3)
        leaf = x.clone().requires_grad_()
        module.zero_grad()
        run(leaf, positions, scores)[0].square().sum().backward()
        grads.append([leaf.grad, *(p.grad.clone() for p in module.parameters())])
    assert_close(grads[1], grads[0], rtol=0, atol=0)


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('strategy', ['orthogonal', 'random', 'bipartite'])
def test_it_compiles_in_one_graph(strategy, training):
    module = TokenMerging(D, strategy=strategy).train(training)
    x, positions, scores = case()
    compiled = torch.compile(module, backend='aot_eager', fullgraph=True)
    results = []
    for run in (module, compiled):
        torch.manual_seed(5)
        leaf = x.clone().requires_grad_()
        y, moved = run(leaf, positions, scores)
        y.square().sum().backward()
        results.append((y, moved, leaf.grad))
    assert_close(results[1], results[0])
    torch._dynamo.reset()


def test_copies_are_equal():
    module, inputs = TokenMerging(D).eval(), case()
    twin = copy.deepcopy(module)
    assert_close(twin(*inputs), module(*inputs))
    other = TokenMerging(D).eval()
    other.load_state_dict(module.state_dict())
    assert_close(other(*inputs), module(*inputs))
    assert sorted(module.state_dict()) == ['fuse.bias', 'fuse.weight', 'phi.bias',
                                           'phi.weight']


def test_sharing_is_asked_for():
    both = torch.nn.ModuleList([TokenMerging(D), TokenMerging(D, scope='clip')])
    alone = sum(p.numel() for p in both[0].parameters())
    assert sum(p.numel() for p in both.parameters()) == 2 * alone
    both[1].share(both[0])
    assert sum(p.numel() for p in both.parameters()) == alone
    twin = copy.deepcopy(both)
    assert twin[1].phi is twin[0].phi and twin[0].phi is not both[0].phi
    for other in (TokenMerging(2 * D), TokenMerging(D, motion=False)):
        with pytest.raises(ValueError, match='share parameters of equal shapes only'):
            both[0].share(other)


@pytest.mark.parametrize('arguments,message', [
    (dict(ratio=1), r'TokenMerging: ratio=1: must be a number in \[0, 1\)'),
    (dict(ratio=-0.1), r'ratio=-0.1: must be a number in \[0, 1\)'),
    (dict(ratio='0.5'), r"ratio='0.5': must be a number in \[0, 1\)"),
    (dict(ratio=float('nan')), r'ratio=nan: must be a number in \[0, 1\)'),
    (dict(scope='video'), "scope='video': allowed are frame, clip"),
    (dict(strategy='kmeans'),
     "strategy='kmeans': allowed are orthogonal, random, bipartite"),
    (dict(strategy=['random']),
     r"strategy=\['random'\]: allowed are orthogonal, random, bipartite"),
    (dict(init='zero'), "init='zero': allowed are random, identity"),
    (dict(alpha=0.5), 'TokenMerging: alpha=0.5: must be a finite number, at least 1'),
    (dict(alpha=float('nan')), 'alpha=nan: must be a finite number, at least 1'),
    (dict(alpha=float('inf')), 'alpha=inf: must be a finite number, at least 1'),
    (dict(alpha='2'), "alpha='2': must be a finite number, at least 1"),
    (dict(temperature=-1), 'TokenMerging: temperature=-1: must be a finite number ab'),
    (dict(temperature=None), 'temperature=None: must be a finite number above 0'),
    (dict(filter=False, alpha=3), 'filter=False has no alpha, got alpha=3: leave it '),
    (dict(axes='rows'), "axes='rows': allowed are both, meta, input"),
    (dict(strategy='bipartite', motion=False),
     "strategy='bipartite' has no motion, got motion=False: leave it out"),
    (dict(strategy='bipartite', alpha=2.), 'has no alpha, got alpha=2.0'),
])
def test_mistakes_in_the_config(arguments, message):
    with pytest.raises(ValueError, match=message):
        TokenMerging(D, **arguments)


@pytest.mark.parametrize('length,arguments,message', [
    (20, dict(scores=torch.rand(2, 20)), 'motion=True needs positions'),
    (20, dict(positions=torch.randn(2, 20, D)),
     'filter=True needs scores .the CLS attention or, without CLS, mean attention'),
    (20, dict(positions=torch.randn(2, 19, D), scores=torch.rand(2, 20)),
     r'positions of shape \(2, 19, 8\) do not fit tokens of shape \(2, 20, 8\)'),
    (20, dict(positions=torch.randn(4, 20, D), scores=torch.rand(2, 20)),
     r'positions of shape \(4, 20, 8\) do not fit'),
    (20, dict(positions=torch.randn(2, 20, D), scores=torch.rand(2, 21)),
     r'scores of shape \(2, 21\) do not fit tokens of shape \(2, 20, 8\)'),
])
def test_mistakes_in_the_call(length, arguments, message):
    with pytest.raises(ValueError, match=message):
        TokenMerging(D)(torch.randn(2, length, D), **arguments)


@pytest.mark.parametrize('shape,message', [
    ((20, D), r'x must be \(R, L, 8\), got shape \(20, 8\)'),
    ((2, 20, 9), r'x must be \(R, L, 8\), got shape \(2, 20, 9\)'),
])
def test_tokens_of_another_shape(shape, message):
    with pytest.raises(ValueError, match=f'TokenMerging: {message}'):
        TokenMerging(D)(torch.randn(shape))
    with pytest.raises(ValueError, match=r'x must be \(R, L, D\), got shape \(20, 8\)'):
        TokenMerging(D, strategy='bipartite')(torch.randn(20, D))


def test_a_ratio_that_leaves_no_token():
    with pytest.raises(SelectionError, match='ratio=0.9 leaves none of 5 tokens'):
        TokenMerging(D, ratio=0.9)(*case(length=5))
