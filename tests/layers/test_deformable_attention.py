# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Deformable attention against loops over queries, frames and points (DVT, eq. 10-16).

The loops follow the paper: the motion embedding is computed and added to the query,
each sample is taken by itself.
"""
import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from mmaction_tokenreduce.layers.deformable_attention import (
    AttentionFusion,
    DeformableAttention,
    MultiScaleAttention,
    SpaceTimeAttention,
)
from mmaction_tokenreduce.ops.sampling import query_places

B, T, H, W, C, HEADS, POINTS, PATCH = 2, 4, 4, 6, 8, 2, 3, 2
CPU = torch.device('cpu')


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def randomized(module):
    """Parameters of a size at which every part matters; points far off the grid too."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.4)
    return module


def sample(grid, x, y):
    """Bilinear sample of (h, w, c) with zeros around."""
    out = torch.zeros(grid.shape[-1])
    left, top = int(x.detach().floor()), int(y.detach().floor())
    for row in (top, top + 1):
        for column in (left, left + 1):
            if 0 <= row < grid.shape[0] and 0 <= column < grid.shape[1]:
                share = (1 - abs(x - column)) * (1 - abs(y - row))
                out = out + share * grid[row, column]
    return out


def head(x, h):
    """Head h's channels of (..., C)."""
    return x.unflatten(-1, (HEADS, -1))[..., h, :]


def predicted(choose, embedded, h, maps=1, level=0):
    """Offsets (N, 2) and logits (N,) of one head, from query plus motion (C,)."""
    offset = choose.offset.weight @ embedded + choose.offset.bias
    logit = choose.weight.weight @ embedded + choose.weight.bias
    return (offset.view(HEADS, maps, POINTS, 2)[h, level],
            logit.view(HEADS, maps, POINTS)[h, level])


def attend(groups):
    """Sum of samples with softmax over all of them: [(map, xy (N, 2), logits (N,))]."""
    weight = torch.cat([logits for *_, logits in groups]).softmax(0)
    samples = [sample(grid, *place) for grid, xy, _ in groups for place in xy]
    return sum(w * s for w, s in zip(weight, samples, strict=True))


def naive_space_time(module, x, query, base, cue, centred=False):
    """Eq. 10 to 14, without the residual."""
    if centred:  # half a patch up and left; the border goes on outside
        rows = (torch.arange(cue.shape[-2]) - PATCH // 2).clamp(min=0)
        columns = (torch.arange(cue.shape[-1]) - PATCH // 2).clamp(min=0)
        cue = cue[..., rows, :][..., columns]
    value, sub_clips = module.value(x), cue.shape[1]
    frames, out = T // sub_clips, torch.zeros(query.shape)
    side = W if query.shape[2] == H * W else W // 2
    for b in range(B):
        for t in range(T):
            clip, i = divmod(t, frames)
            for s in range(query.shape[2]):
                row, column = divmod(s, side)
                for h in range(HEADS):
                    groups = []
                    for j in range(frames):
                        patch = cue[b, clip, i, j, :, row * PATCH:(row + 1) * PATCH,
                                    column * PATCH:(column + 1) * PATCH]
                        motion = module.choose.embed.weight.flatten(1) @ patch.flatten()
                        offset, logit = predicted(module.choose,
                                                  query[b, t, s] + motion, h)
                        groups.append((head(value[b, clip * frames + j], h),
                                       base[s] + offset, logit))
                    head(out[b, t, s], h).copy_(attend(groups))
    return module.proj(out)


def naive_multi_scale(module, x, query, base):
    """Eq. 15 and 16, without the residual."""
    pooled = module.pool(x.permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)
    values, out = [module.value(x), module.value(pooled)], torch.zeros(query.shape)
    for b in range(B):
        for t in range(T):
            for s in range(query.shape[2]):
                for h in range(HEADS):
                    groups = []
                    for level, scale in enumerate((1, module.stride)):
                        offset, logit = predicted(module.choose, query[b, t, s], h, 2,
                                                  level)
                        groups.append((head(values[level][b, t], h),
                                       base[s] / scale + offset, logit))
                    head(out[b, t, s], h).copy_(attend(groups))
    return module.proj(out)


def inputs(stride=1, channels=2, sub_clips=2):
    x = torch.randn(B, T, H, W, C, requires_grad=True)
    hw = (H // stride, W // stride)
    query = torch.randn(B, T, hw[0] * hw[1], C, requires_grad=True)
    cue = torch.randn(B, sub_clips, T // sub_clips, T // sub_clips, channels,
                      hw[0] * PATCH, hw[1] * PATCH, requires_grad=True)
    return x, query, query_places(hw, stride, CPU), cue


def compare(module, naive, args):
    """Values, and gradients of inputs and parameters."""
    got, want = module(*args), naive(module, *args)
    assert_close(got, want, rtol=1e-4, atol=1e-5)
    wanted = [*(a for a in args if a.requires_grad), *module.parameters()]
    loss = torch.randn_like(want)
    for a, b in zip(torch.autograd.grad((got * loss).sum(), wanted),
                    torch.autograd.grad((want * loss).sum(), wanted), strict=True):
        assert_close(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('stride', [1, 2], ids=['same grid', 'pooled queries'])
@pytest.mark.parametrize('channels,sub_clips', [(2, 2), (3, 1), (2, 4)])
def test_space_time_attention_equals_the_loop(stride, channels, sub_clips):
    for centred in (False, True):
        module = randomized(SpaceTimeAttention(C, HEADS, POINTS, channels, PATCH,
                                               centred))
        compare(module, partial(naive_space_time, centred=centred),
                inputs(stride, channels, sub_clips))


@pytest.mark.parametrize('stride', [1, 2], ids=['same grid', 'pooled queries'])
@pytest.mark.parametrize('scale', [1, 2, 3])
def test_multi_scale_attention_equals_the_loop(stride, scale):
    module = randomized(MultiScaleAttention(C, HEADS, POINTS, scale))
    compare(module, naive_multi_scale, inputs(stride)[:3])


def whole(kind, fusion='linear'):
    return DeformableAttention(C, HEADS, kind, fusion, POINTS, 2, PATCH, 2, False)


@pytest.mark.parametrize('fusion', ['linear', 'mlp'])
def test_both_are_fused_with_their_residuals(fusion):
    module = randomized(whole('st+ms', fusion))
    x, query, base, cue = inputs()
    skip = torch.randn_like(query)
    got = module(x, query, base, skip, cue, lambda update: 2 * update)
    st = skip + 2 * naive_space_time(module.space_time, x, query, base, cue)
    ms = skip + 2 * naive_multi_scale(module.multi_scale, x, query, base)
    layers, both = module.fusion.layers, torch.cat((st, ms), -1)
    if fusion == 'linear':
        want = both @ layers.weight.T + layers.bias
    else:
        hidden = nn.functional.gelu(both @ layers[0].weight.T + layers[0].bias)
        want = (st + ms) / 2 + hidden @ layers[2].weight.T + layers[2].bias
    assert_close(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('kind,fusion', [('st', 'linear'), ('ms', 'linear'),
                                         ('st+ms', 'linear'), ('st+ms', 'mlp')])
def test_every_parameter_gets_a_gradient(kind, fusion):
    module = whole(kind, fusion)
    x, query, base, cue = inputs()
    module(x, query, base, query, cue, nn.Identity()).square().sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def test_linear_fusion_starts_as_the_mean():
    fusion = AttentionFusion(64, 'linear')
    tokens = torch.randn(5, 2, 64)
    assert (fusion(tokens) - tokens.mean(-2)).abs().mean() < 0.5


def test_points_start_on_a_ring_around_the_query():
    module = SpaceTimeAttention(C, HEADS, POINTS, 2, PATCH, False)
    x, query, base, cue = inputs()
    points = module.choose(query * 0, base, cue * 0)
    radius = (points.xy - base.view(-1, 1, 1, 1, 2)).norm(dim=-1)
    assert_close(radius[..., 0, :, :], torch.ones_like(radius[..., 0, :, :]))
    assert_close(radius[..., 1, :, :], 2 * torch.ones_like(radius[..., 1, :, :]))
    assert_close(points.weight, torch.full_like(points.weight, 1 / (2 * POINTS)))


def test_motion_weighs_as_much_as_the_query_at_first():
    torch.manual_seed(0)
    for patch in (1, 4):
        module = SpaceTimeAttention(256, HEADS, POINTS, 2, patch, False)
        cue = torch.zeros(1, 1, 1, 1, 2, 4 * patch, 4 * patch)
        base = query_places((4, 4), 1, CPU)
        still = module.choose(torch.zeros(1, 1, 16, 256), base, cue).xy
        cue[..., 0, :, :] = 1.0
        moved = module.choose(torch.zeros(1, 1, 16, 256), base, cue).xy
        query = module.choose(torch.randn(1, 1, 16, 256), base, cue * 0).xy
        by_motion, by_query = ((xy - still).square().mean().sqrt()
                               for xy in (moved, query))
        assert_close(by_query, torch.tensor(0.5), rtol=0.25, atol=0)
        assert_close(by_motion, by_query, rtol=0.5, atol=0)


def test_the_second_map_is_as_large_as_the_first():
    module = MultiScaleAttention(64, HEADS, POINTS, 2)
    x = torch.randn(1, T, 16, 16, 64)
    pooled = module.pool(x.permute(0, 4, 1, 2, 3))[:, :, 1:-1, 1:-1, 1:-1]
    assert_close(pooled.std(), x.std(), rtol=0.2, atol=0)


def test_a_hook_sees_the_decision():
    module, seen = SpaceTimeAttention(C, HEADS, POINTS, 2, PATCH, False), []
    module.choose.register_forward_hook(lambda module, args, out: seen.append(out))
    module(*inputs())
    assert seen[0].xy.shape == (B, T, H * W, HEADS, T // 2, POINTS, 2)
    assert_close(seen[0].weight.sum((-1, -2)), torch.ones(B, T, H * W, HEADS))


def test_init_weights_draws_anew():
    module = whole('st+ms', 'mlp')
    start = copy.deepcopy(module.space_time.choose.offset.bias)
    randomized(module).init_weights()
    assert_close(module.space_time.choose.offset.bias, start)
    # The query moves points by half a cell: 0.5 / sqrt(C).
    assert_close(module.multi_scale.choose.offset.weight.std(),
                 torch.tensor(0.5 * C**-0.5), rtol=0.2, atol=0)
    assert module.fusion.layers[0].weight.std() < 0.03


def test_trains_under_bfloat16_autocast():
    module = whole('st+ms', 'mlp')
    x, query, base, cue = inputs()
    exact = module(x, query, base, query, cue, nn.Identity())
    with torch.autocast('cpu', torch.bfloat16):
        half = module(x, query, base, query, cue, nn.Identity())
    half.float().square().sum().backward()
    assert_close(half.float(), exact, rtol=0.1, atol=0.1)
    assert all(p.grad.isfinite().all() for p in module.parameters())
