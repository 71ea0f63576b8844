# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""ReducedViT against mmaction2's VideoMAE ViT, equations, and its own contracts."""
import copy

import pytest
import torch
import torch.nn.functional as F
from mmaction.models.backbones.vit_mae import VisionTransformer
from mmaction.registry import MODELS
from mmengine.runner.checkpoint import load_state_dict
from tiny_hosts import (
    MERGES,
    inputs_of,
    merging,
    noise,
    output,
    randomize,
    set_rates,
    spatial,
    temporal,
)
from torch.testing import assert_close

from mmaction_tokenreduce.engine.hooks.check_load_hook import compare_state
from mmaction_tokenreduce.models import ReducedViT

VIT = dict(img_size=32, patch_size=8, embed_dims=24, num_heads=3, depth=4, num_frames=8)
T, N, C, HEADS = 4, 16, 24, 3
CLIP = (3, 8, 32, 32)


def vit(reducers=(), **kwargs):
    return ReducedViT(**{**VIT, **kwargs}, reducers=reducers)


def twins(reducers, **kwargs):
    """mmaction2's dense model and ours with reducers, the same random weights."""
    dense = randomize(VisionTransformer(**VIT, **kwargs))
    reduced = randomize(vit(reducers, **kwargs))
    reduced.load_state_dict(dense.state_dict(), strict=False)
    return dense, reduced


def block_and_received(block, x):
    """One block by the equations; the mean attention (B, M) that tokens receive."""
    attn, normed = block.attn, block.norm1(x)
    bias = torch.cat((attn.q_bias, torch.zeros(C), attn.v_bias))
    parts = F.linear(normed, attn.qkv.weight, bias).chunk(3, dim=-1)
    heads, received = [], 0
    for q, k, v in zip(*(part.chunk(HEADS, -1) for part in parts), strict=True):
        weights = (q @ k.mT * attn.scale).softmax(-1)
        heads.append(weights @ v)
        received = received + weights.mean(1) / HEADS
    x = x + attn.proj(torch.cat(heads, -1))
    mlp = block.mlp.layers
    return x + mlp[1](F.gelu(mlp[0][0](block.norm2(x)))), received


@pytest.mark.parametrize('kwargs', [
    dict(), dict(init_values=0.1, qkv_bias=False, use_mean_pooling=False),
    dict(use_learnable_pos_emb=True, qk_scale=0.2, tubelet_size=4, mlp_ratio=2),
    dict(return_feat_map=True), dict(return_feat_map=True, use_mean_pooling=False),
], ids=str)
@pytest.mark.parametrize('size', [(32, 32), (48, 24)], ids=str)
def test_dense_is_the_model_of_mmaction2(kwargs, size):
    dense = randomize(VisionTransformer(**VIT, **kwargs))
    reduced = vit(**kwargs).eval()
    reduced.load_state_dict(dense.state_dict())
    x = torch.randn(2, 3, 8, *size)
    want = output(dense, x)
    assert want.std() > 0.1
    assert_close(output(reduced, x), want, rtol=1e-4, atol=1e-4)


def test_keeping_all_is_the_identity():
    dense = randomize(vit())
    reduced = vit([temporal(0, 1), spatial(1, 1), merging(1, 'clip', ratio=0),
                   merging(2, ratio=0)]).eval()
    reduced.load_state_dict(dense.state_dict())  # strict: nothing more, nothing less
    x = torch.randn(2, *CLIP)
    assert torch.equal(output(reduced, x), output(dense, x))


@pytest.mark.parametrize('kwargs', [
    dict(), dict(use_learnable_pos_emb=True, qk_scale=0.2)], ids=str)
def test_merges_get_received_attention_and_positions(kwargs):
    """The whole model by its equations, from mmaction2's embedding on."""
    dense, reduced = twins(MERGES, **kwargs)
    calls = [inputs_of(reducer) for reducer in reduced.reducers]
    x = torch.randn(2, *CLIP)
    got = output(reduced, x)
    with torch.no_grad():
        tokens = dense.patch_embed(x)[0] + dense.pos_embed
        for block in dense.blocks[:2]:
            tokens, received = block_and_received(block, tokens)
        frames = [part.reshape(2 * T, N, *part.shape[2:]) for part in (
            tokens, dense.pos_embed.expand(2, -1, -1), received)]
        for given, want in zip(calls[0][0], frames, strict=True):
            assert_close(given, want, rtol=1e-3, atol=1e-5)
        y, moved = reduced.reducers[0](*frames)
        tokens, received = block_and_received(dense.blocks[2], y.reshape(2, -1, C))
        clips = tokens, moved.reshape(2, -1, C), received  # positions: P of the first
        for given, want in zip(calls[1][0], clips, strict=True):
            assert_close(given, want, rtol=1e-3, atol=1e-4)
        y, _ = reduced.reducers[1](*clips)
        assert y.shape == (2, T * N // 4, C)
        tokens, _ = block_and_received(dense.blocks[3], y)
        want = dense.fc_norm(tokens.mean(1))
    assert_close(received.sum(1), torch.ones(2))
    assert_close(got, want, rtol=1e-3, atol=1e-4)


def test_positions_of_another_frame_size_reach_the_merge_resized():
    _, reduced = twins([merging(0, filter=False)])
    calls = inputs_of(reduced.reducers[0])
    output(reduced, torch.randn(1, 3, 8, 48, 40))
    tokens, positions, scores = calls[0]
    assert tokens.shape == positions.shape == (T, 6 * 5, C) and scores is None
    for t in range(T):
        table = reduced.pos_embed[0, t * N:(t + 1) * N].T.reshape(1, C, 4, 4)
        resized = F.interpolate(table, (6, 5), mode='bicubic', align_corners=False)
        assert_close(positions[t], resized[0].flatten(1).T)


def test_selection_before_merging_carries_positions():
    _, reduced = twins([temporal(1, 0.5), spatial(2, 0.5), merging(2)])
    seen = []
    for reducer in reduced.reducers[:2]:
        reducer.choose.register_forward_hook(
            lambda module, args, out: seen.append(out.index))
    calls = inputs_of(reduced.reducers[2])
    output(reduced, torch.randn(1, *CLIP))
    _, positions, scores = calls[0]
    assert positions.shape == (2, 4, C) and scores.shape == (2, 4)
    for i, t in enumerate(seen[0][0].tolist()):
        corner = int(seen[1][i])
        places = [(corner // 3 + j // 2) * 4 + corner % 3 + j % 2 for j in range(4)]
        table = reduced.pos_embed[0, t * N:(t + 1) * N]
        assert_close(positions[i], table[places])


@pytest.mark.parametrize('kwargs', [
    dict(), dict(use_learnable_pos_emb=True, init_values=0.1, use_mean_pooling=False,
                 qkv_bias=False)], ids=str)
@pytest.mark.parametrize('reducers', [
    MERGES, [merging(0, filter=False), merging(1, 'clip', strategy='random')],
    [temporal(0, 0.75), spatial(1, 0.5), merging(2), merging(3, 'clip')],
], ids=['paper', 'others', 'selected'])
def test_any_reducers_train(reducers, kwargs):
    model = randomize(vit(reducers, **kwargs)).train()
    model(torch.randn(2, *CLIP)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
        # min-max normalisation takes a shift of all scores out
        assert parameter.grad.any() or name.endswith('score_net.head.4.bias'), name


def test_the_grid_that_selectors_leave_is_returned():
    model = vit([temporal(0, 0.75)], return_feat_map=True).eval()
    tokens = []
    model.blocks[3].register_forward_hook(lambda module, args, out: tokens.append(out))
    out = output(model, torch.randn(2, *CLIP))
    assert out.shape == (2, C, 3, 4, 4)
    assert torch.equal(out[1, :, 2, 1, 0], tokens[0][0][1, 2 * 16 + 4])


def test_a_dense_checkpoint_loads():
    dense = randomize(VisionTransformer(**VIT)).state_dict()
    new = [f'reducers.{i}.{name}' for i in (0, 1)
           for name in ('phi.weight', 'phi.bias', 'fuse.weight', 'fuse.bias')]
    problems = vit(MERGES).load_state_dict(dense, strict=False)
    assert problems.missing_keys == new and problems.unexpected_keys == []
    model = MODELS.build(dict(
        _scope_='mmaction', type='Recognizer3D',
        backbone=dict(type='ReducedViT', **VIT, reducers=MERGES),
        cls_head=dict(type='TimeSformerHead', num_classes=3, in_channels=C)))
    file = {f'backbone.{name}': value for name, value in dense.items()}
    file |= {name: value for name, value in model.state_dict().items()
             if name.startswith(('cls_head.', 'backbone.reducers.'))}
    assert not any(compare_state(model, file))
    load_state_dict(model, file, strict=True)
    assert_close({name: model.backbone.state_dict()[name] for name in dense},
                 dict(dense), rtol=0, atol=0)


def test_views_of_a_batch_do_not_mix():
    model = randomize(vit([temporal(1, 0.75), *MERGES]))
    x = torch.randn(3, *CLIP)
    together = output(model, x)
    assert_close(together[1:2], output(model, x[1:2]), rtol=1e-4, atol=1e-5)
    assert (together[0] - together[1]).abs().max() > 1e-2


def test_evaluation_repeats_whatever_the_seed():
    model, x = randomize(vit(MERGES)), torch.randn(1, *CLIP)
    first = output(model, x)
    torch.manual_seed(99)
    assert torch.equal(output(model, x), first)


def test_activation_checkpointing_changes_nothing():
    x, grads, losses = torch.randn(2, *CLIP), [], []
    for with_cp in (False, True):
        torch.manual_seed(7)
        model = randomize(vit([temporal(1, 0.75), *MERGES], drop_rate=0.1,
                              attn_drop_rate=0.1, drop_path_rate=0.2, with_cp=with_cp))
        calls = [inputs_of(block) for block in model.blocks]
        loss = model.train()(x).square().sum()
        loss.backward()
        assert [len(block) for block in calls] == [1 + with_cp] * 4
        losses.append(loss.detach())
        grads.append([p.grad for p in model.parameters()])
    assert_close(losses[0], losses[1], rtol=0, atol=0)
    assert_close(grads[0], grads[1])


@pytest.mark.parametrize('where', ['pos_drop', 'attn_drop', 'proj_drop', 'drop_path',
                                   'mlp'])
def test_as_much_is_dropped_in_training_as_by_mmaction2(where):
    """By each kind of dropout alone."""
    dense, reduced = twins((), drop_path_rate=0.1)
    clip, values = torch.randn(1, *CLIP), []
    for model in (dense, reduced):
        set_rates(model, 0.5, where)
        values.append(noise(model, model.blocks[3], clip))
    assert values[0].min() > 0.1
    assert_close(values[1], values[0], rtol=0.1, atol=0.01)


def test_nothing_is_dropped_in_evaluation():
    dense, reduced = twins((), drop_rate=0.5, attn_drop_rate=0.5, drop_path_rate=0.5)
    x = torch.randn(2, *CLIP)
    want = output(dense, x)
    assert_close(output(reduced, x), want, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(output(reduced.train(), x), want, atol=1e-2)


def test_compiles_without_a_graph_break():
    model = randomize(vit([temporal(0, 0.75), merging(1), merging(2, 'clip')], depth=3,
                          drop_path_rate=0.2))
    compiled = torch.compile(model, backend='aot_eager', fullgraph=True)
    x = torch.randn(1, *CLIP)
    assert_close(output(compiled, x), output(model, x), rtol=1e-4, atol=1e-5)


def test_works_under_autocast():
    model = randomize(vit(MERGES)).train()
    seen = inputs_of(model.reducers[1])
    with torch.autocast('cpu', torch.bfloat16):
        model(torch.randn(2, *CLIP)).float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert [part.dtype for part in seen[0]] == [torch.float32] * 3


def test_copies_have_their_own_reducers():
    model = vit(MERGES)
    twin = copy.deepcopy(model)
    used = {id(m) for group in twin._reducers_before.values() for m in group}
    assert used == {id(m) for m in twin.reducers}
    assert not used & {id(m) for m in model.reducers}


@pytest.mark.parametrize('reducers,kwargs,message', [
    ([temporal(2, 0.5, strategy='cls_attention')], {},
     "before=2: strategy='cls_attention' cannot serve here: VideoMAE's ViT has no cla"),
    ([merging(2)], dict(return_feat_map=True),
     'ReducedViT: return_feat_map=True needs a grid of tokens, which TokenMerging'),
    ([spatial(2, 0.6)], dict(return_feat_map=True),
     'ReducedViT: return_feat_map=True needs whole frames, which SpatialSelection'),
])
def test_bad_options(reducers, kwargs, message):
    with pytest.raises(ValueError, match=message):
        vit(reducers, **kwargs)


@pytest.mark.parametrize('name', ['drop_paths', 'kwargs', 'share_merging'])
def test_a_misspelt_argument_is_named(name):
    with pytest.raises(TypeError, match=f'unexpected argument {name!r}'):
        MODELS.build(dict(type='ReducedViT', **VIT, **{name: 0.1}))


def test_a_clip_of_another_length_is_named():
    with pytest.raises(ValueError, match=r'ReducedViT: 8 token frames, the position emb'
                       r'eddings are for 4 \(num_frames, tubelet_size\)'):
        vit()(torch.randn(1, 3, 16, 32, 32))
    with pytest.raises(ValueError, match=(r'ReducedViT: clips must be \(B, 3, T, H, W\)'
                                          r', got shape \(3, 8, 32, 32\)')):
        vit()(torch.randn(*CLIP))


@pytest.mark.parametrize('wrapped', [False, True], ids=['bare', 'recognizer'])
@pytest.mark.parametrize('init', ['identity', 'random'])
def test_merges_start_as_told(init, wrapped):
    """VideoMAE's ``init_cfg`` (std 0.02) is for the host's layers alone."""
    cfg = dict(type='ReducedViT', **dict(VIT, embed_dims=96),
               reducers=[merging(2, init=init), merging(3, 'clip', init=init)])
    if wrapped:
        cfg = dict(_scope_='mmaction', type='Recognizer3D', backbone=cfg,
                   cls_head=dict(type='TimeSformerHead', num_classes=3, in_channels=96))
    model = MODELS.build(cfg)
    model.init_weights()
    backbone = model.backbone if wrapped else model
    std = backbone.blocks[0].attn.proj.weight.std().item()
    assert std == pytest.approx(0.02, rel=0.05)
    for reducer in backbone.reducers:
        for layer, fan_in in ((reducer.phi, 96), (reducer.fuse, 192)):
            if init == 'identity':
                assert_close(layer.weight.detach(), torch.eye(96, fan_in))
            else:
                std = layer.weight.std().item()
                assert std == pytest.approx((3 * fan_in)**-0.5, rel=0.05)
            assert layer.bias.any() == (init == 'random')


def test_a_checkpoint_of_merges_comes_after_their_initial_values(tmp_path):
    source, path = randomize(vit(MERGES)), str(tmp_path / 'merged.pth')
    torch.save(dict(state_dict=source.state_dict()), path)
    model = vit([merging(2, init='identity'), MERGES[1]], init_cfg=[
        dict(type='TruncNormal', layer='Linear', std=0.02),
        dict(type='Pretrained', checkpoint=path)])
    model.init_weights()
    for name, value in source.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_pretrained_weights_are_loaded(tmp_path):
    """mmaction2's host takes the argument and loses it."""
    source, path = vit(), str(tmp_path / 'dense.pth')
    torch.save(dict(state_dict=source.state_dict()), path)
    model = vit(pretrained=path, reducers=[merging(2)])
    assert not torch.equal(model.blocks[0].attn.proj.weight,
                           source.blocks[0].attn.proj.weight)
    model.init_weights()
    for name, value in source.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
