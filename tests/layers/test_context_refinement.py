# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""The decoder against attention written out, its masks, depths and drop path."""
import math

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from mmaction_tokenreduce.layers import ContextRefinement, DecoderBlock
from mmaction_tokenreduce.layers.context_refinement import DropPath

C, HEADS, K = 12, 3, 5


def randomized(module):
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module.eval()


def decoder(**kwargs):
    return randomized(ContextRefinement(**{**dict(
        channels=C, depth=3, num_heads=HEADS, num_classes=K, hidden_channels=8),
        **kwargs}))


def naive_block(block, x):
    """A pre-norm block, one clip, one head and one query at a time."""
    out = x.clone()
    for b in range(len(x)):
        normed = F.layer_norm(x[b], (C, ), block.norm1.weight, block.norm1.bias, 1e-6)
        parts = normed @ block.attn.qkv.weight.T
        q, k, v = parts[:, :C] + block.attn.q_bias, parts[:, C:2 * C], \
            parts[:, 2 * C:] + block.attn.v_bias
        width = C // HEADS
        rows = []
        for i in range(len(q)):
            row = []
            for h in range(HEADS):
                part = slice(h * width, (h + 1) * width)
                logits = k[:, part] @ q[i, part] / math.sqrt(width)
                row.append(logits.softmax(0) @ v[:, part])
            rows.append(torch.cat(row))
        out[b] = x[b] + block.attn.proj(torch.stack(rows))
    normed = F.layer_norm(out, (C, ), block.norm2.weight, block.norm2.bias, 1e-6)
    hidden = F.gelu(F.linear(normed, block.mlp[0].weight, block.mlp[0].bias))
    return out + F.linear(hidden, block.mlp[2].weight, block.mlp[2].bias)


def naive_classifier(parts, x):
    first, norm, _, last = parts
    hidden = F.layer_norm(x @ first.weight.T, (8, ), norm.weight, norm.bias, 1e-5)
    return hidden.clamp(min=0) @ last.weight.T + last.bias


def test_equals_a_loop_at_every_depth():
    model = decoder()
    context, actors = torch.randn(2, 7, C), torch.randn(2, 4, C)
    with torch.no_grad():
        got = model(context, actors, all_depths=True)
        x = torch.cat((context, actors), 1)
        for depth, block in enumerate(model.blocks):
            x = naive_block(block, x)
            want = naive_classifier(model.classifiers[depth], x[:, 7:])
            assert_close(got[depth], want, rtol=1e-4, atol=1e-4)
        assert len(got) == 3
        last = model(context, actors)
    assert len(last) == 1
    assert_close(last[0], got[-1], rtol=0, atol=0)


def test_without_deep_supervision_the_last_block_alone_is_classified():
    model, whole = decoder(deep_supervision=False), decoder()
    state = {name.replace('classifiers.2', 'classifiers.0'): value
             for name, value in whole.state_dict().items()
             if not name.startswith(('classifiers.0', 'classifiers.1'))}
    model.load_state_dict(state)
    context, actors = torch.randn(1, 3, C), torch.randn(1, 2, C)
    (got, ) = model(context, actors, all_depths=True)
    assert_close(got, whole(context, actors)[0])


def test_padding_is_as_if_it_were_not_there():
    model = decoder()
    context, actors = torch.randn(2, 6, C), torch.randn(2, 4, C)
    valid = torch.ones(2, 6, dtype=torch.bool)
    valid[1, 4:] = False
    got = model(context, actors, valid, all_depths=True)
    short = model(context[1:, :4], actors[1:], all_depths=True)
    whole = model(context[:1], actors[:1], all_depths=True)
    for depth in range(3):
        assert_close(got[depth], torch.cat((whole[depth], short[depth])), rtol=1e-4,
                     atol=1e-5)


def test_context_matters_and_its_order_does_not():
    model = decoder()
    context, actors = torch.randn(1, 6, C), torch.randn(1, 4, C)
    want = model(context, actors)[0]
    assert_close(model(context[:, torch.randperm(6)], actors)[0], want, rtol=1e-4,
                 atol=1e-5)
    assert not torch.allclose(model(2 * context, actors)[0], want, atol=0.01)


def test_every_parameter_gets_a_gradient():
    model = decoder().train()
    sum(part.square().sum() for part in model(
        torch.randn(2, 5, C), torch.randn(2, 3, C), all_depths=True)).backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())


def test_drop_path_leaves_branches_out_for_whole_clips():
    drop = DropPath(0.25)
    x = torch.ones(4000, 2, 3)
    y = drop(x)
    assert_close(y, y[:, :1, :1].expand_as(y))
    assert set(y.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert abs(y.mean().item() - 1) < 0.03
    assert drop.eval()(x) is x


def test_drop_path_grows_with_depth():
    rates = [block.drop_path.rate for block in decoder(drop_path=0.1).blocks]
    assert rates == [0.0, 0.05, 0.1]


def test_initial_values():
    model = ContextRefinement(C, 2, HEADS, K, 8)
    bound = math.sqrt(6 / (C + 4 * C))
    weight = model.blocks[0].mlp[0].weight
    assert 0.8 * bound < weight.abs().max() <= bound
    assert not model.blocks[0].mlp[0].bias.any()
    assert not model.blocks[1].attn.q_bias.any()


@pytest.mark.parametrize('kwargs,message', [
    (dict(depth=0), 'depth=0: must be a whole number, at least 1'),
    (dict(num_heads=5), 'num_heads=5: must divide channels=12'),
    (dict(drop_path=1.0), r'drop_path=1.0: must be in \[0, 1\)')])
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        decoder(**kwargs)


def test_a_block_without_context_runs_alone():
    x = torch.randn(2, 5, C)
    block = randomized(DecoderBlock(C, HEADS))
    assert_close(block(x), naive_block(block, x), rtol=1e-4, atol=1e-4)
