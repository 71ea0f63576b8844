# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Attention roll-out against products of whole matrices, built token by token."""
import pytest
import torch
import torch.nn.functional as F

from mmaction_tokenreduce.layers import KeyframePruning, TokenMerging
from mmaction_tokenreduce.models import ReducedTimeSformer, ReducedViT
from mmaction_tokenreduce.models.backbones.timesformer_block import DividedLayer
from mmaction_tokenreduce.visualization import AttentionRollout

T, N, C, HEADS = 3, 4, 12, 3
SIZE = (3, T, 16, 16)
MERGES = [dict(type='TokenMerging', before=1), dict(type='TokenMerging', before=2,
                                                    scope='clip')]
SELECT = [dict(type='TemporalSelection', before=0, keep=0.67)]
PRUNE = [dict(type='KeyframePruning', within=0, keep=0.7),
         dict(type='KeyframePruning', within=1, keep=0.8)]
MERGE = [dict(type='TokenMerging', before=2, scope='clip')]
DIVIDED, JOINT = 'divided_space_time', 'joint_space_time'


def timesformer(kind, reducers):
    return ReducedTimeSformer(num_frames=T, img_size=16, patch_size=8, embed_dims=C,
                              num_heads=HEADS, num_transformer_layers=3,
                              attention_type=kind, reducers=reducers)


def vit(reducers, **kwargs):
    return ReducedViT(img_size=16, patch_size=8, embed_dims=C, depth=3, tubelet_size=1,
                      num_heads=HEADS, num_frames=T, reducers=reducers, **kwargs)


def run(model, batch=2):
    """The roll-out, and what went into layers and came out of decisions."""
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    seen = []
    for module in model.modules():
        if hasattr(module, 'attentions') or hasattr(module, 'norm1'):
            module.register_forward_pre_hook(
                lambda module, args: seen.append((module, args[0])))
        elif hasattr(module, 'choose'):
            module.choose.register_forward_hook(
                lambda choose, args, out, owner=module: seen.append((owner, out)))
    with torch.no_grad(), AttentionRollout(model.eval()) as trace:
        model(torch.randn(batch, *SIZE))
    return trace, seen


def attention_map(attention, x):
    """(L, L), mean over heads, of tokens x (L, C), by PyTorch's own attention."""
    if isinstance(attention, torch.nn.MultiheadAttention):
        weight, bias = attention.in_proj_weight, attention.in_proj_bias
    else:
        weight = attention.qkv.weight
        bias = torch.cat((attention.q_bias, torch.zeros(C), attention.v_bias))
    _, found = F.multi_head_attention_forward(
        x[:, None], x[:, None], x[:, None], C, HEADS, weight, bias, None, None, False,
        0., torch.eye(C), None, training=False, need_weights=True)
    return found[0]


def half(matrix):
    return (matrix + torch.eye(len(matrix))) / 2


def layer_matrix(layer, x, frames):
    """What one layer does to the tokens (1 + M, C) of a clip, as (1 + M, 1 + M)."""
    if not hasattr(layer, 'attentions'):
        return half(attention_map(layer.attn, layer.norm1(x)))
    if not isinstance(layer, DividedLayer):
        return half(attention_map(layer.attentions[0].attn, layer.norms[0](x)))
    space = layer.attentions[1]
    if layer.joint:
        return half(attention_map(space.attn, space.norm(x)))
    time, places = layer.attentions[0], (len(x) - 1) // frames

    def at(t, n):
        return 1 + t * places + n

    over_time = torch.eye(len(x))
    for n in range(places):
        line = [at(t, n) for t in range(frames)]
        found = attention_map(time.attn, time.norm(x[line]))
        for i, row in enumerate(line):
            for j, column in enumerate(line):
                over_time[row, column] = found[i, j]
    changed = x.clone()
    for n in range(places):
        line = [at(t, n) for t in range(frames)]
        changed[line] += time.temporal_fc(time.attn(time.norm(x[line])[None])[0])[0]
    over_space = torch.zeros(len(x), len(x))
    for t in range(frames):
        members = [0] + [at(t, n) for n in range(places)]
        found = attention_map(space.attn, space.norm(changed[members]))
        for j, column in enumerate(members):
            over_space[0, column] += found[0, j] / frames
            for i, row in enumerate(members[1:], 1):
                over_space[row, column] = found[i, j]
    return half(over_space) @ half(over_time)


def expected(seen, sample, extra):
    """(extra + M after, extra + M before): all steps multiplied, and patches kept."""
    frames, total, size = T, torch.eye(extra + T * N), N
    for module, what in seen:
        if isinstance(module, TokenMerging):
            weight = what.weight
            if module.scope == 'frame':
                weight = torch.block_diag(
                    *weight[sample * frames:(sample + 1) * frames])
                size = weight.shape[0] // frames
            else:
                weight = weight[sample]
            step = torch.block_diag(torch.eye(extra), weight)
        elif isinstance(module, KeyframePruning):
            step = torch.eye(len(total))[what.index[sample]]
        elif hasattr(module, 'choose'):
            index = what.index[sample]
            rows = [*range(extra)] + [extra + t * size + n for t in index.tolist()
                                      for n in range(size)]
            frames, step = len(index), torch.eye(len(total))[rows]
        else:
            step = layer_matrix(module, what[sample], frames)
        total = step @ total
    return total


@pytest.mark.parametrize('reducers', [[], MERGES, SELECT, SELECT + MERGES],
                         ids=['dense', 'merged', 'selected', 'both'])
@pytest.mark.parametrize('kind', [DIVIDED, JOINT])
def test_timesformer(kind, reducers):
    trace, seen = run(timesformer(kind, reducers))
    for sample in range(2):
        row = expected(seen, sample, 1)[0, 1:]
        heat = trace.heat(sample, (T, 2, 2))
        torch.testing.assert_close(heat.flatten().float(), row / row.sum(), atol=1e-6,
                                   rtol=1e-4)
        dropped = (heat.sum((1, 2)) == 0).sum()
        assert dropped == (1 if SELECT[0] in reducers else 0)
        assert heat.max() > 1.3 * heat[heat > 0].min()  # it tells patches apart


@pytest.mark.parametrize('reducers', [[], MERGES], ids=['dense', 'merged'])
@pytest.mark.parametrize('mean', [True, False])
def test_vit(mean, reducers):
    check_vit(reducers, mean)


@pytest.mark.parametrize('reducers', [PRUNE, SELECT + PRUNE[:1], PRUNE + MERGE,
                                      [dict(PRUNE[0], unified=True, keep=0.5)]],
                         ids=['pruned', 'selected', 'merged', 'unified'])
def test_pruned_vit(reducers):
    check_vit(reducers, True)


def check_vit(reducers, mean):
    trace, seen = run(vit(reducers, use_mean_pooling=mean))
    for sample in range(2):
        rows = expected(seen, sample, 0)
        row = rows.mean(0) if mean else rows[0]
        torch.testing.assert_close(trace.heat(sample, (T, 2, 2)).flatten().float(), row,
                                   atol=1e-6, rtol=1e-4)


def test_outputs_that_are_no_one_token_are_refused():
    with pytest.raises(ValueError, match=r'out_indices=\(0, 2\) hands tokens to a '
                                         'detector'):
        AttentionRollout(vit(PRUNE, out_indices=(0, 2)))
    with pytest.raises(ValueError, match='return_feat_map=True restores pruned tokens'):
        AttentionRollout(vit(PRUNE, return_feat_map=True))
    AttentionRollout(vit([], return_feat_map=True))
    valid = torch.ones(1, 2, 2, dtype=torch.bool)
    valid[0, 1] = False
    model = vit(PRUNE).eval()
    with torch.no_grad(), AttentionRollout(model), pytest.raises(
            ValueError, match='clips with padding .* are not followed'):
        model(torch.randn(1, *SIZE), valid)


def test_uniform_attention_by_hand():
    """Without queries all attention is even: 1/13 of each of 13 tokens.

    The class token keeps 1/2 + 1/26 = 7/13 of itself in a layer, so that each of 12
    patches gets the same share of the rest.
    """
    model = timesformer(JOINT, [])
    for layer in model.transformer_layers.layers:
        torch.nn.init.zeros_(layer.attentions[0].attn.in_proj_weight)
    with torch.no_grad(), AttentionRollout(model.eval()) as trace:
        model(torch.randn(1, *SIZE))
    heat = trace.heat(0, (T, 2, 2))
    torch.testing.assert_close(heat, torch.full((T, 2, 2), 1 / 12).double())


def test_mistakes_and_hooks():
    with pytest.raises(ValueError, match='Linear holds no attention that can be rolled '
                                         'out: allowed are .* ReducedTimeSformer and'):
        AttentionRollout(torch.nn.Linear(2, 2))
    trace, _ = run(timesformer(DIVIDED, MERGES))
    with pytest.raises(ValueError, match=r'clip 0: an attention over time was given '
                                         '8 rows of 3 tokens'):
        trace.heat(0, (2, 2, 2))
    with pytest.raises(ValueError, match='roll-out of clip 2'):
        trace.heat(2, (T, 2, 2))
    with pytest.raises(ValueError, match='roll-out of clip -1'):
        trace.heat(-1, (T, 2, 2))
    trace.clear()
    with pytest.raises(ValueError, match='0 calls of 6 watched modules'):
        trace.heat(0, (T, 2, 2))
    model = timesformer('space_only', [])
    with torch.no_grad(), AttentionRollout(model) as trace:
        model(torch.randn(1, *SIZE))
    with pytest.raises(ValueError, match="'space_only' is not followed"):
        trace.heat(0, (T, 2, 2))
    assert not model.transformer_layers.layers[0].attentions[0].attn._forward_pre_hooks
