# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""ReducedSwin3D against mmaction2's Swin, naive attention, and its own contracts.

The release's outputs are compared in tests/convert/test_swin_converters.py.
"""
import copy
from itertools import product

import pytest
import torch
from mmaction.models.backbones.swin import SwinTransformer3D
from mmaction.registry import MODELS
from mmengine.registry import DefaultScope
from torch import nn
from torch.testing import assert_close

from mmaction_tokenreduce.layers import FastLinear
from mmaction_tokenreduce.models import ReducedSwin3D
from mmaction_tokenreduce.models.backbones import window_block
from mmaction_tokenreduce.ops.windows import window_plan

TINY = dict(arch=dict(embed_dims=16, depths=[2, 2, 1, 1], num_heads=[1, 2, 4, 8]),
            window_size=(4, 4, 4))


@pytest.fixture(autouse=True)
def mmaction_scope():
    with DefaultScope.overwrite_default_scope('mmaction'):
        yield


def temporal(before, keep, **kwargs):
    return dict(type='TemporalSelection', before=before, keep=keep, **kwargs)


def spatial(before, keep, **kwargs):
    return dict(type='SpatialSelection', before=before, keep=keep, **kwargs)


def randomize(model):
    """Parameters of a size at which every part matters to the output."""
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.train(False)  # mmaction2's returns None
    return model


def features(model, x):
    with torch.no_grad():
        out = model(x)
    return list(out) if isinstance(out, tuple) else [out]


def same_weights(model, source):
    model.load_state_dict(source.state_dict())
    return model.eval()


@pytest.mark.parametrize('kwargs', [
    dict(), dict(out_indices=(0, 1, 3)),
    dict(out_indices=(0, 2, 3), out_after_downsample=True),
    dict(patch_norm=False, qkv_bias=False, qk_scale=0.3, mlp_ratio=2),
], ids=str)
@pytest.mark.parametrize('size', [(16, 128, 128), (10, 96, 72), (7, 64, 80)], ids=str)
def test_padded_mode_is_the_dense_model_where_nothing_is_dropped(kwargs, size):
    dense = randomize(SwinTransformer3D(**TINY, pretrained2d=False, **kwargs))
    reduced = same_weights(
        ReducedSwin3D(**TINY, window_mode='padded', **kwargs), dense)
    x = torch.randn(2, 3, *size)
    for got, want in zip(features(reduced, x), features(dense, x), strict=True):
        assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_packed_mode_is_the_dense_model_where_frames_fill_windows():
    """16 or 8 frames fill windows of 4 token frames; 128 pixels all windows."""
    dense = randomize(SwinTransformer3D(**TINY, pretrained2d=False))
    reduced = same_weights(ReducedSwin3D(**TINY), dense)
    for frames in (16, 8, 4):
        x = torch.randn(1, 3, frames, 128, 128)
        assert_close(features(reduced, x), features(dense, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('mode', ['packed', 'padded'])
@pytest.mark.parametrize('shifted', [False, True])
def test_one_block_attends_by_true_distances_in_the_window(mode, shifted):
    """Naive attention over the places that a plan puts together; 5 of 4+4 frames."""
    thw, index = (5, 6, 4), 1 if shifted else 0
    # A region selector: mmaction2's sliced index is then out of the question.
    model = randomize(ReducedSwin3D(**TINY, window_mode=mode, reducers=[spatial(2, 1)]))
    block = model.layers[1].blocks[index]
    attn, heads = block.attn, block.attn.num_heads
    assert block.is_shifted == shifted and not attn.sliced_index
    plan = window_plan(1, thw, (4, 4, 4), shifted, mode == 'packed',
                       torch.device('cpu'))
    x = torch.randn(1, 120, 32)
    with torch.no_grad():
        got = plan.restore(attn(plan.gather(x), plan), 1)[0]
        qkv = attn.qkv(torch.cat((x[0], torch.zeros(1, 32))))
        q, k, v = qkv.view(121, 3, heads, -1).unbind(1)
        table = attn.relative_position_bias_table.view(7, 7, 7, heads)
        first = 0
        for group in plan.groups:
            spots = list(product(*(range(side) for side in group.size)))
            for start in range(first, first + group.num_rows, len(spots)):
                rows = plan.gather_index[start:start + len(spots)]
                for a in (0, len(spots) - 1):
                    if rows[a] == 120:
                        continue  # padded
                    logits = (q[rows[a]] * k[rows]).sum(-1) * attn.scale
                    for b, spot in enumerate(spots):
                        t, h, w = (i - j + 3 for i, j in zip(spots[a], spot,
                                                             strict=True))
                        logits[b] += table[t, h, w]
                        if group.mask is not None and group.mask[a, b]:
                            logits[b] = -torch.inf
                    out = (logits.softmax(0).unsqueeze(-1) * v[rows]).sum(0).flatten()
                    assert_close(got[rows[a]], attn.proj(out), rtol=1e-4, atol=1e-5)
            first += group.num_rows


@pytest.mark.parametrize('mode', ['packed', 'padded'])
def test_keeping_all_is_the_identity(mode):
    dense = randomize(ReducedSwin3D(**TINY, window_mode=mode))
    reduced = same_weights(ReducedSwin3D(
        **TINY, window_mode=mode, reducers=[temporal(0, 1), temporal(2, 1.0)]), dense)
    x = torch.randn(1, 3, 10, 64, 64)
    assert torch.equal(features(reduced, x)[0], features(dense, x)[0])


def test_selecting_frames_is_running_on_fewer_frames():
    """Distances in time are counted in the packed order, as in the release."""
    reduced = randomize(ReducedSwin3D(**TINY, reducers=[
        temporal(0, 0.625, strategy='uniform')]))
    dense = ReducedSwin3D(**TINY).eval()
    dense.load_state_dict(reduced.state_dict())
    x = torch.randn(1, 3, 16, 64, 64)
    frames = [i * 7 // 4 for i in range(5)]  # 5 of 8 token frames
    fewer = torch.cat([x[:, :, 2 * i:2 * i + 2] for i in frames], dim=2)
    assert_close(features(reduced, x), features(dense, fewer), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('mode', ['packed', 'padded'])
@pytest.mark.parametrize('reducers', [
    [temporal(0, 0.625)], [temporal(0, 0.8), spatial(1, 0.6), temporal(2, 0.5)],
    [spatial(0, 0.5), spatial(3, 0.5)], [temporal(3, 0.5, strategy='gumbel')],
    [temporal(1, 0.5, strategy='random'), spatial(1, 0.4, strategy='random')],
    [spatial(1, 0.6, score='anchor'), temporal(2, 0.6, strategy='uniform')],
], ids=['temporal', 'several', 'spatial', 'gumbel', 'random', 'uniform'])
@pytest.mark.parametrize('size', [(16, 64, 64), (14, 72, 96)], ids=str)
def test_any_selectors_before_any_stage(mode, reducers, size):
    model = ReducedSwin3D(**TINY, window_mode=mode, reducers=reducers)
    model.init_weights()
    x = torch.randn(2, 3, *size)
    out = model.train()(x)
    out.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert features(model.eval(), x)[0].shape == out.shape


def test_grid_that_selectors_leave():
    model = ReducedSwin3D(**TINY, out_indices=(0, 1, 2, 3), reducers=[
        temporal(0, 0.625), spatial(1, 0.5), temporal(2, 0.5)]).eval()
    shapes = [tuple(part.shape[1:]) for part in
              features(model, torch.randn(1, 3, 16, 64, 96))]
    # 8 frames of 16x24; 5 are kept; of 8x12 the anchor is 5x8; then 2 frames of 3x4
    assert shapes == [(16, 5, 16, 24), (32, 5, 5, 8), (64, 2, 3, 4), (128, 2, 2, 2)]


def test_views_of_a_batch_do_not_mix():
    model = randomize(ReducedSwin3D(**TINY, reducers=[temporal(0, 0.625)]))
    x = torch.randn(3, 3, 16, 64, 64)
    assert_close(features(model, x)[0][1:2], features(model, x[1:2])[0],
                 rtol=1e-4, atol=1e-5)


def test_activation_checkpointing_changes_nothing():
    x, grads, losses = torch.randn(2, 3, 16, 64, 64), [], []
    for with_cp in (False, True):
        torch.manual_seed(3)
        model = ReducedSwin3D(**TINY, with_cp=with_cp, drop_path_rate=0.2,
                              attn_drop_rate=0.1, reducers=[temporal(0, 0.6)])
        model.init_weights()
        loss = model.train()(x).square().sum()
        loss.backward()
        losses.append(loss.detach())
        grads.append([p.grad for p in model.parameters()])
    assert_close(losses[0], losses[1], rtol=0, atol=0)
    assert_close(grads[0], grads[1])


def test_trains_after_inference_on_the_same_grid():
    """Cached window indices must not be tensors of inference mode."""
    model = ReducedSwin3D(**TINY)
    x = torch.randn(1, 3, 12, 48, 48)
    with torch.inference_mode():
        model.eval()(x)
    model.train()(x).sum().backward()


@pytest.mark.parametrize('mode', ['packed', 'padded'])
def test_compiles_without_a_graph_break(mode):
    """Blocks shifted and not, merging of patches, and a selector, each once."""
    arch = dict(embed_dims=16, depths=[2, 1], num_heads=[1, 2])
    model = randomize(ReducedSwin3D(arch, window_size=(4, 4, 4), out_indices=(1, ),
                                    window_mode=mode, reducers=[temporal(0, 0.625)]))
    compiled = torch.compile(model, backend='aot_eager', fullgraph=True)
    x = torch.randn(1, 3, 16, 64, 64)
    with torch.no_grad():
        assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-5)


def test_works_under_autocast():
    model = ReducedSwin3D(**TINY, reducers=[temporal(0, 0.625)])
    model.init_weights()
    with torch.autocast('cpu', torch.bfloat16):
        model.train()(torch.randn(1, 3, 16, 64, 64)).float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_copies_have_their_own_selectors():
    model = ReducedSwin3D(**TINY, reducers=[temporal(0, 0.5)])
    twin = copy.deepcopy(model)
    assert twin._reducers_before[0][0] is twin.reducers[0]
    assert twin.reducers[0] is not model.reducers[0]


def test_parameters_of_the_full_model():
    """87.639 M dense, 87.747 M with a temporal selector (SPEC, section 1)."""
    counts = []
    for reducers in ([], [temporal(0, 0.625)]):
        model = ReducedSwin3D('base', reducers=reducers)
        counts.append(round(sum(p.numel() for p in model.parameters()) / 1e6, 3))
    assert counts == [87.639, 87.747]


def test_frozen_stages_stay_frozen():
    model = ReducedSwin3D(**TINY, frozen_stages=1, reducers=[temporal(0, 0.5)])
    assert model.train() is model and model.eval() is model
    assert not any(p.requires_grad for p in model.layers[0].parameters())
    assert all(p.requires_grad for p in model.layers[1].parameters())


def test_image_weights_are_inflated_as_in_mmaction2(tmp_path):
    state, video = {}, SwinTransformer3D(**TINY, pretrained2d=False)
    for name, value in video.state_dict().items():
        if name == 'patch_embed.proj.weight':
            value = torch.randn(16, 3, 4, 4)
        elif 'bias_table' in name:
            value = torch.randn(49, value.shape[1])
        state[name.replace('norm3.', 'norm.')] = value
    path = str(tmp_path / 'image.pth')
    torch.save(dict(model=state), path)
    models = [SwinTransformer3D(**TINY, pretrained=path),
              ReducedSwin3D(**TINY, pretrained=path, reducers=[temporal(0, 0.5)])]
    for model in models:
        model.init_weights()
    want, got = (model.state_dict() for model in models)
    assert want['layers.0.blocks.0.attn.relative_position_bias_table'].shape == (343, 1)
    for name, value in want.items():
        assert torch.equal(got[name], value), name


@pytest.mark.parametrize('kwargs,message', [
    (dict(window_mode='dense'), "window_mode='dense': allowed are packed, padded"),
    (dict(reducers=[temporal(4, 0.5)]),
     r'ReducedSwin3D: reducers\[0\] \(TemporalSelection\): before=4: allowed are 0 to '
     '3'),
    (dict(reducers=[temporal(1, 0.5, strategy='cls_attention')]),
     "before=1: strategy='cls_attention' cannot serve here: Video Swin has no class"),
    (dict(reducers=[spatial(1, 0.5, unit='token')]),
     "before=1: unit='token' cannot serve here: windows read relative positions"),
])
def test_bad_options(kwargs, message):
    with pytest.raises(ValueError, match=message):
        ReducedSwin3D(**TINY, **kwargs)


def test_a_misspelt_argument_is_named():
    with pytest.raises(TypeError, match='window_sise'):
        MODELS.build(dict(type='ReducedSwin3D', arch='tiny', window_sise=(8, 7, 7)))


@pytest.mark.parametrize('with_cp', [False, True])
def test_activation_checkpointing_runs_blocks_again(with_cp):
    model = ReducedSwin3D(**TINY, with_cp=with_cp)
    blocks = [block for layer in model.layers for block in layer.blocks]
    calls = []
    for block in blocks:
        block.register_forward_pre_hook(lambda module, args: calls.append(module))
    loss = model.train()(torch.randn(1, 3, 8, 32, 32)).square().sum()
    assert calls == blocks
    loss.backward()
    assert calls[len(blocks):] == (blocks[::-1] if with_cp else [])


class OnTokens(nn.Module):
    """mmaction2's dropout of channels-first grids, in our order of random draws."""

    def __init__(self, dropout):
        super().__init__()
        self.dropout = dropout

    def forward(self, x):
        tokens = self.dropout(x.flatten(2).transpose(1, 2).contiguous())
        return tokens.transpose(1, 2).reshape(x.shape)


@pytest.mark.parametrize('rates', [
    dict(drop_rate=0.3), dict(drop_path_rate=0.6),
    dict(drop_rate=0.2, drop_path_rate=0.4)], ids=str)
def test_what_is_dropped_in_training_is_what_mmaction2_drops(rates):
    """On grids of one window, where both draw the same numbers in the same order."""
    rates = {'drop_path_rate': 0., **rates}
    dense = randomize(SwinTransformer3D(**TINY, pretrained2d=False, **rates))
    reduced = same_weights(ReducedSwin3D(**TINY, window_mode='padded', **rates), dense)
    dense.pos_drop = OnTokens(dense.pos_drop)
    x, outs = torch.randn(4, 3, 8, 16, 16), []
    for model in (dense, reduced):
        model.train(True)  # mmaction2's returns None
        torch.manual_seed(5)
        outs.append(features(model, x))
        outs[-1].append(torch.rand(1))  # as many draws
    assert_close(outs[1], outs[0], rtol=1e-4, atol=1e-4)
    still = features(reduced.eval(), x)
    assert not torch.allclose(still[0], outs[1][0], atol=1e-2)
    dense.train(False)
    assert_close(still, features(dense, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('mode', ['packed', 'padded'])
def test_attention_is_dropped_in_training_alone(mode, monkeypatch):
    model = ReducedSwin3D(**TINY, window_mode=mode, attn_drop_rate=0.3)
    attend, rates = window_block.F.scaled_dot_product_attention, []

    def watched(*args, **kwargs):
        rates.append(kwargs.get('dropout_p', 0.0))
        return attend(*args, **kwargs)

    monkeypatch.setattr(window_block.F, 'scaled_dot_product_attention', watched)
    x = torch.randn(1, 3, 8, 32, 32)
    features(model.train(), x)
    assert len(rates) >= 6 and set(rates) == {0.3}
    rates.clear()
    features(model.eval(), x)
    assert len(rates) >= 6 and set(rates) == {0.0}


def test_frozen_stages_are_in_evaluation_while_the_others_train():
    model = ReducedSwin3D(**TINY, frozen_stages=2, reducers=[temporal(0, 0.5)])
    assert model.train() is model
    assert not (model.patch_embed.training or model.pos_drop.training)
    assert not any(m.training for i in (0, 1) for m in model.layers[i].modules())
    assert all(m.training for part in (*model.layers[2:], model.reducers)
               for m in part.modules())


def test_linear_layers_are_fast_ones():
    """Of blocks, of the merging of patches, and of score networks."""
    model = ReducedSwin3D(**TINY, reducers=[temporal(0, 0.5), spatial(2, 0.5)])
    kinds = [type(m) for m in model.modules() if isinstance(m, nn.Linear)]
    assert kinds == [FastLinear] * (6 * 4 + 3 + 2 * 4)
