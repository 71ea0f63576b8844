# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""ReducedMViT against the release's outputs, mmaction2's MViT and its own contracts."""
import copy

import pytest
import torch
from mmaction.models.backbones.mvit import MViT
from mmaction.registry import MODELS
from torch.testing import assert_close

from mmaction_tokenreduce.convert.slowfast_mvit import convert_slowfast_mvit
from mmaction_tokenreduce.convert.stts_mvit import convert_stts_mvit
from mmaction_tokenreduce.evaluation import recognizer_forward
from mmaction_tokenreduce.layers import PerturbedTopK, SpatialSelection
from mmaction_tokenreduce.models import ReducedMViT

TINY = dict(arch=dict(embed_dims=16, num_layers=4, num_heads=1,
                      downscale_indices=[1, 3]),
            spatial_size=64, temporal_size=8)
V1 = dict(dim_mul_in_attention=False, rel_pos_embed=False, residual_pooling=False,
          pool_query='downscale', pool_norm_cfg=dict(type='LN', eps=1e-5),
          separable_pos_embed=True)
TINY_V1 = dict(TINY, adaptive_kv_stride=(1, 4, 4), **V1)


def temporal(before, keep, **kwargs):
    return dict(type='TemporalSelection', before=before, keep=keep, **kwargs)


def spatial(before, keep, **kwargs):
    return dict(type='SpatialSelection', before=before, keep=keep, **kwargs)


JOINT = [temporal(0, 0.75), spatial(2, 0.5625)]


def randomize(model):
    """Parameters of a size at which every part matters to the output."""
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def outputs(model, x):
    """All feature maps and class tokens of a model, in one list."""
    with torch.no_grad():
        return [part for scale in model(x)
                for part in (scale if isinstance(scale, list) else [scale])]


@pytest.mark.parametrize('name', ['dense', 'temporal', 'spatial', 'joint'])
def test_released_model(shared_dir, name):
    case = torch.load(shared_dir / 'parity' / 'stts_mvit.pt')[name]
    cfg = case['cfg']
    reducers = [temporal(*pair) for pair in
                zip(cfg['temporal_before'] or [], cfg['temporal_ratio'], strict=True)]
    reducers += [spatial(*pair) for pair in
                 zip(cfg['spatial_before'] or [], cfg['spatial_ratio'], strict=True)]
    model = MODELS.build(dict(
        _scope_='mmaction',
        type='Recognizer3D',
        backbone=dict(type='ReducedMViT', **TINY_V1, reducers=reducers),
        cls_head=dict(type='MViTHead', in_channels=64, num_classes=cfg['num_classes'])))
    convert = convert_stts_mvit if reducers else convert_slowfast_mvit
    model.load_state_dict(convert(case['state_dict'], model).state_dict)
    grid, cls = outputs(model.eval().backbone, case['input'])
    tokens = torch.cat((cls.unsqueeze(1), grid.flatten(2).transpose(1, 2)), dim=1)
    assert_close(tokens, case['tokens'], rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        logits = recognizer_forward(model, case['input'])
    assert_close(logits, case['logits'], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('kwargs', [
    dict(),
    dict(dim_mul_in_attention=False, residual_pooling=False),
    dict(use_abs_pos_embed=True, rel_pos_embed=False, rel_pos_zero_init=True),
    dict(use_abs_pos_embed=True, with_cls_token=False, output_cls_token=False),
    dict(output_cls_token=False, qkv_bias=False),
], ids=str)
@pytest.mark.parametrize('size', [(8, 64, 64), (12, 96, 64)])
def test_settings_of_mmaction2_and_its_checkpoints(kwargs, size):
    cfg = dict(TINY, out_scales=[0, 1, 2], **kwargs)
    dense = randomize(MViT(**copy.deepcopy(cfg)))
    reduced = ReducedMViT(**copy.deepcopy(cfg)).eval()
    reduced.load_state_dict(dense.state_dict())
    x = torch.randn(2, 3, *size)
    assert_close(outputs(reduced, x), outputs(dense, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('host', [TINY, TINY_V1], ids=['v2', 'v1'])
def test_keeping_all_is_the_identity(host):
    dense = randomize(ReducedMViT(**host))
    reduced = ReducedMViT(**host, reducers=[temporal(0, 1), spatial(3, 1)]).eval()
    reduced.load_state_dict(dense.state_dict())
    x = torch.randn(1, 3, 8, 64, 64)
    for got, want in zip(outputs(reduced, x), outputs(dense, x), strict=True):
        assert torch.equal(got, want)


def test_relative_positions_of_kept_tokens_are_those_of_the_full_grid():
    """One block, pooling switched off: dropping tokens must not move the others.

    The attention of a kept query over kept keys, computed from the full model's logits
    by taking rows and columns, equals the reduced model's.
    """
    arch = dict(embed_dims=8, num_layers=1, num_heads=1, downscale_indices=[])
    cfg = dict(arch=arch, spatial_size=16, temporal_size=8,
               adaptive_kv_stride=(1, 1, 1), with_cls_token=False,
               output_cls_token=False, residual_pooling=False,
               pool_kernel=(1, 1, 1))
    model = ReducedMViT(**cfg, reducers=[temporal(0, 0.5), spatial(0, 0.5)])
    randomize(model)
    choices = []
    for reducer in model.reducers:
        reducer.choose.register_forward_hook(lambda m, a, out: choices.append(out))
    x = torch.randn(1, 3, 8, 16, 16)
    got = outputs(model, x)[0]  # (1, 8, 2, 2, 2)

    tokens, thw = model.patch_embed(x)
    assert tuple(thw) == (4, 4, 4)
    frames = choices[0].index[0].tolist()
    corners = [(int(i) // 3, int(i) % 3) for i in choices[1].index.flatten()]
    kept = [t * 16 + (r + dr) * 4 + c + dc
            for t, (r, c) in zip(frames, corners, strict=True)
            for dr in range(2) for dc in range(2)]
    block, attn = model.blocks[0], model.blocks[0].attn
    normed = block.norm1(tokens)
    q, k, v = attn.qkv(normed).chunk(3, dim=-1)
    q, k, v = (norm(part * pool.weight.flatten()) for part, pool, norm in (
        (q, attn.pool_q, attn.norm_q), (k, attn.pool_k, attn.norm_k),
        (v, attn.pool_v, attn.norm_v)))
    logits = torch.zeros(64, 64)
    place = [(i // 16, i // 4 % 4, i % 4) for i in range(64)]
    for i, (t, h, w) in enumerate(place):
        for j, (s, y, z) in enumerate(place):
            bias = (attn.rel_pos_t[t - s + 3] + attn.rel_pos_h[h - y + 3] +
                    attn.rel_pos_w[w - z + 3])
            logits[i, j] = q[0, i] @ k[0, j] * attn.scale + q[0, i] @ bias
    weights = logits[kept][:, kept].softmax(-1)
    out = tokens[0, kept] + attn.proj(weights @ v[0, kept])
    out = model.norm0(out + block.mlp(block.norm2(out)))
    assert_close(got[0].flatten(1).t(), out, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('reducers', [
    JOINT, [temporal(1, 0.5), spatial(1, 0.5), temporal(3, 0.5)],
    [temporal(0, 0.5, strategy='random'), spatial(3, 0.6, strategy='random')],
    [temporal(2, 0.5, score_net='paper', frame_feature='mean')]
], ids=['joint', 'several', 'random', 'paper'])
@pytest.mark.parametrize('host', [
    TINY, dict(TINY, adaptive_kv_stride=(2, 4, 4)), TINY_V1,
    dict(TINY_V1, with_cls_token=False, output_cls_token=False)
], ids=['v2', 'v2 with temporal stride', 'v1', 'v1 without class token'])
@pytest.mark.parametrize('size', [(8, 64, 64), (16, 64, 96), (12, 72, 40)])
def test_any_number_of_selectors_on_any_grid(host, reducers, size):
    model = ReducedMViT(**host, reducers=reducers)
    model.init_weights()
    x = torch.randn(2, 3, *size)
    out = model.train()(x)[-1]
    parts = out if isinstance(out, list) else [out]
    loss = sum(part.square().sum() for part in parts)
    loss.backward()
    assert loss.isfinite()
    assert outputs(model.eval(), x)[0].shape == parts[0].shape
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None or not parameter.requires_grad, name
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert frozen == ([] if model.with_cls_token else ['cls_token'])


def test_frames_left_by_two_temporal_selectors():
    reducers = [temporal(0, 0.75), temporal(2, 0.7)]
    model = ReducedMViT(**TINY_V1, reducers=reducers).eval()
    assert outputs(model, torch.randn(1, 3, 8, 64, 64))[0].shape == (1, 64, 2, 4, 4)


def test_temporal_acts_before_spatial_at_one_place():
    model = ReducedMViT(**TINY_V1, reducers=[spatial(1, 0.5), temporal(1, 0.5)]).eval()
    rows = []
    model.reducers[0].choose.register_forward_hook(
        lambda m, args, out: rows.append(len(args[0])))
    model(torch.randn(1, 3, 8, 64, 64))
    assert rows == [2]  # two frames are left to look at, not four
    assert isinstance(model.reducers[0], SpatialSelection)  # names follow the config


def class_attention(attn, x, thw):
    """Attention (B, T, h, w) of the class token to the pooled keys, from its parts."""
    heads, dims = attn.num_heads, attn.out_dims
    with torch.no_grad():
        q, k, _ = attn.qkv(x).unflatten(-1, (3 * heads, -1)).split(heads, 2)
        cls_q = q[:, 0] if attn.pool_q is None else attn.norm_q(q[:, 0])
        # heads are a batch to the pooling
        grid = k[:, 1:].permute(0, 2, 3, 1).flatten(0, 1).unflatten(2, thw)
        pooled = attn.pool_k(grid)
        keys = pooled.flatten(2).transpose(1, 2).unflatten(0, (len(x), heads))
        keys = attn.norm_k(torch.cat((k[:, :1].transpose(1, 2), keys), 2))
        logits = (cls_q.unsqueeze(2) * keys).sum(-1) * (dims // heads)**-0.5
        row = logits.softmax(-1)[:, :, 1:].mean(1)
    return row.unflatten(1, pooled.shape[2:])


def ranking_by_class_attention(host, before, reducer, size):
    """What a selector chose, what attention was handed over and on which grid, and the
    naive attention of the block before."""
    model = randomize(ReducedMViT(**host, reducers=[reducer]))
    seen, calls = [], []
    model.reducers[0].choose.register_forward_hook(
        lambda m, args, out: seen.append(out))
    attn = model.blocks[before - 1].attn
    attn.register_forward_hook(lambda m, args, out: calls.append((args, out)))
    outputs(model, torch.randn(2, 3, 8, *size))
    ((x, thw, *_), (_, out_thw, handed)), (choice, ) = calls[0], seen
    return choice, handed.unflatten(1, out_thw), class_attention(attn, x, thw)


@pytest.mark.parametrize('host', [TINY, TINY_V1], ids=['v2', 'v1'])
@pytest.mark.parametrize('before', [1, 2])
def test_class_attention_that_ranks_is_that_of_the_block_before(host, before):
    """The attended map of block before-1, computed from its parts."""
    choice, _, attention = ranking_by_class_attention(
        host, before, temporal(before, 0.5, strategy='cls_attention'), (64, 64))
    best = attention.flatten(2).mean(2).topk(2).indices.sort().values
    assert attention.shape[1] == 4 and choice.index.tolist() == best.tolist()


@pytest.mark.parametrize('host', [TINY, TINY_V1], ids=['v2', 'v1'])
@pytest.mark.parametrize('before,grid', [(1, (16, 24)), (2, (8, 12))])
def test_class_attention_ranks_regions_place_by_place(host, before, grid):
    """Each place of the grid reads the pooled key that covers it."""
    choice, handed, attention = ranking_by_class_attention(
        host, before, dict(type='SpatialSelection', before=before, anchor=(3, 2),
                           strategy='cls_attention'), (64, 96))
    frames, height, width = attention.shape[1:]
    assert handed.shape == (2, frames, *grid)
    assert before == 2 or (height < grid[0] and width < grid[1])
    full = torch.stack([torch.stack([
        attention[..., r * height // grid[0], c * width // grid[1]]
        for c in range(grid[1])], -1) for r in range(grid[0])], -2)
    assert_close(handed, full, rtol=1e-3, atol=1e-6)

    def ranked(maps):
        """Anchors of 3x2 at half of what is left beside them, min-max normalised."""
        steps = (grid[0] - 3) // 2, (grid[1] - 2) // 2
        scores = torch.stack([maps[..., r:r + 3, c:c + 2].mean((2, 3))
                              for r in range(0, grid[0] - 2, steps[0])
                              for c in range(0, grid[1] - 1, steps[1])], -1)
        low, high = scores.aminmax(dim=-1, keepdim=True)
        return ((scores - low) / (high - low + 1e-5)).flatten(0, 1)

    assert_close(choice.scores, ranked(full), rtol=1e-3, atol=1e-3)
    for side in (2, 3):
        assert not torch.allclose(choice.scores, ranked(full.flip(side)), atol=0.05)
        assert not torch.allclose(handed, full.flip(side), rtol=0.05)


@pytest.mark.parametrize('with_cp', [False, True])
def test_class_attention_trains_and_ranks_regions_too(with_cp):
    model = ReducedMViT(**TINY_V1, with_cp=with_cp, reducers=[
        temporal(2, 0.5, strategy='cls_attention'),
        spatial(2, 0.5, strategy='cls_attention')])
    model.init_weights()
    out = model.train()(torch.randn(2, 3, 8, 64, 64))[-1]
    out[1].square().sum().backward()
    assert out[0].shape == (2, 64, 2, 3, 3)
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize('host,before,reason', [
    (TINY_V1, 0, 'no attention has been computed there yet'),
    (dict(TINY_V1, with_cls_token=False, output_cls_token=False), 2,
     'with_cls_token=False'),
])
def test_where_class_attention_cannot_serve(host, before, reason):
    with pytest.raises(ValueError, match=(
            fr"reducers\[0\] \(TemporalSelection\) before={before}: "
            f"strategy='cls_attention' cannot serve here: {reason}")):
        ReducedMViT(**host, reducers=[temporal(before, 0.5, strategy='cls_attention')])


def test_selecting_tokens_needs_a_host_without_relative_positions():
    reducers = [spatial(1, 0.5, unit='token')]
    assert outputs(ReducedMViT(**TINY_V1, reducers=reducers).eval(),
                   torch.randn(1, 3, 8, 64, 64))[0].shape == (1, 64, 4, 3, 3)
    with pytest.raises(ValueError, match="before=1: unit='token' cannot serve here: "
                       'rel_pos_embed=True reads positions by row and column'):
        ReducedMViT(**TINY, reducers=reducers)


def test_views_of_a_batch_do_not_mix():
    """Ten views of a video are a batch of ten to the backbone."""
    model = randomize(ReducedMViT(**TINY_V1, reducers=JOINT))
    x = torch.randn(3, 3, 8, 64, 64)
    together, alone = outputs(model, x), outputs(model, x[1:2])
    for part, single in zip(together, alone, strict=True):
        assert_close(part[1:2], single, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('host', [TINY, TINY_V1], ids=['v2', 'v1'])
def test_activation_checkpointing_changes_nothing(host):
    x, grads, losses = torch.randn(2, 3, 8, 64, 64), [], []
    model = ReducedMViT(**host, reducers=JOINT, drop_path_rate=0.2)
    model.init_weights()
    for with_cp in (False, True):
        model.with_cp = with_cp
        model.zero_grad()
        torch.manual_seed(7)
        loss = model.train()(x)[-1][1].square().sum()
        loss.backward()
        losses.append(loss)
        grads.append([p.grad.clone() for p in model.parameters()])
    assert_close(losses[0], losses[1], rtol=0, atol=0)
    assert_close(grads[0], grads[1])


@pytest.mark.parametrize('host', [TINY, TINY_V1], ids=['v2', 'v1'])
def test_compiles_without_a_graph_break(host):
    arch = dict(embed_dims=16, num_layers=3, num_heads=1, downscale_indices=[1])
    model = randomize(ReducedMViT(**dict(host, arch=arch), reducers=JOINT))
    compiled = torch.compile(model, backend='aot_eager', fullgraph=True)
    x = torch.randn(1, 3, 8, 64, 64)
    with torch.no_grad():
        assert_close(compiled(x)[-1], model(x)[-1], rtol=1e-4, atol=1e-5)


def test_copies_have_their_own_selectors():
    model = ReducedMViT(**TINY_V1, reducers=JOINT)
    twin = copy.deepcopy(model)
    for module in twin.modules():
        if isinstance(module, PerturbedTopK):
            module.sigma.zero_()
    assert all(m.sigma > 0 for m in model.modules() if isinstance(m, PerturbedTopK))
    used = {id(m) for group in twin._reducers_before.values() for m in group}
    assert used == {id(m) for m in twin.reducers}


def test_parameters_of_the_full_model():
    head = 768 * 400 + 400
    counts = []
    for reducers in ([], [temporal(0, 0.625), spatial(4, 0.863)]):
        model = ReducedMViT(arch='small', **V1, reducers=reducers)
        counts.append(sum(p.numel() for p in model.parameters()) + head)
    assert counts == [36610672, 36912498]


def test_init_draws_position_embeddings():
    model = ReducedMViT(**TINY_V1, reducers=JOINT)
    model.init_weights()
    for name in ('spatial', 'temporal'):
        assert_close(getattr(model, f'pos_embed_{name}').std(), torch.tensor(0.02),
                     rtol=0.3, atol=0)


@pytest.mark.parametrize('kwargs,message', [
    (dict(reducers=[temporal(4, 0.5)]),
     r"reducers\[0\] \(TemporalSelection\): before=4: allowed are 0 to 3"),
    (dict(reducers=[temporal(0, 0.5), spatial(-1, 0.5)]),
     r'reducers\[1\] \(SpatialSelection\): before=-1: allowed are 0 to 3'),
    (dict(reducers=[dict(type='TemporalSelection', keep=0.5)]), 'before=None: allowed'),
    (dict(reducers=None), 'ReducedMViT: reducers=None: must be a list of dicts'),
    (dict(reducers=[dict(type='TemporalSelection', before=True, keep=0.5)]),
     'before=True: allowed are 0 to 3'),
    (dict(reducers=[temporal(0, 0)]), r'reducers\[0\]: .*keep=0 is outside \(0, 1\]'),
    (dict(reducers=[temporal(0, 1.5)]), r'reducers\[0\]: .*keep=1.5 is outside'),
    (dict(reducers=[temporal(0, 0.5, kep=1)]), r"reducers\[0\]: .*'kep'"),
    (dict(reducers=[dict(type='TemporalSelektion', before=0)]), 'TemporalSelektion'),
    (dict(reducers=[temporal(0, 0.5, in_channels=5)]), 'in_channels is given by'),
    (dict(reducers=[dict(before=0)]), 'must be a dict with a type'),
    (dict(reducers=[dict(type='MViTHead', before=0, num_classes=2)]),
     'is not a grid reducer'),
    (dict(pool_query='never'), "pool_query='never': allowed are always, downscale"),
    (dict(separable_pos_embed=True, use_abs_pos_embed=True), 'exclude each other'),
])
def test_bad_options(kwargs, message):
    with pytest.raises(ValueError, match=message):
        ReducedMViT(**TINY, **kwargs)


def test_a_misspelt_argument_is_named():
    with pytest.raises(TypeError, match='drop_path_rat'):
        MODELS.build(dict(type='ReducedMViT', **TINY, drop_path_rat=0.1))


@pytest.mark.parametrize('reducer,message', [
    (temporal(0, 0.2), 'keep=0.2 leaves none of 4 token frames'),
    (dict(type='SpatialSelection', before=2, anchor=9), 'does not fit a grid of 8x8'),
])
def test_a_grid_too_small_for_the_selector(reducer, message):
    model = ReducedMViT(**TINY_V1, reducers=[reducer])
    with pytest.raises(ValueError, match=message):
        model(torch.randn(1, 3, 8, 64, 64))
