# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What ReducedTimeSformer's parameters are called, and whose weights fit."""
import copy

import pytest
import torch
from mmaction.models.backbones.timesformer import TimeSformer
from mmaction.registry import MODELS
from mmengine.registry import DefaultScope
from mmengine.runner.checkpoint import load_state_dict
from tiny_hosts import (
    CLIP,
    DIVIDED,
    HEADS,
    JOINT,
    MERGES,
    TINY,
    TYPES,
    C,
    dense_host,
    host,
    merging,
    output,
    randomize,
)
from torch.testing import assert_close

from mmaction_tokenreduce.engine.hooks.check_load_hook import compare_state
from mmaction_tokenreduce.models import ReducedTimeSformer


def test_no_temporal_attention_after_the_first_merge():
    """Names are those of the dense model; no norms, projections or temporal_fc."""
    names = set(host(reducers=MERGES).state_dict())
    gone = tuple(f'transformer_layers.layers.{i}.attentions.0.' for i in (2, 3))
    dense = {name for name in dense_host().state_dict() if not name.startswith(gone)}
    parts = ('phi.weight', 'phi.bias', 'fuse.weight', 'fuse.bias')
    assert names == dense | {f'reducers.{i}.{part}' for i in (0, 1) for part in parts}
    assert len(dense_host().state_dict()) - len(dense) == 2 * 8


@TYPES
def test_a_dense_checkpoint_loads(kind):
    """By PyTorch, by mmengine below a prefix, and past CheckLoadHook's comparison."""
    dense = randomize(dense_host(attention_type=kind)).state_dict()
    reduced = host(kind, MERGES)
    problems = copy.deepcopy(reduced).load_state_dict(dense, strict=False)
    new = [f'reducers.{i}.{name}' for i in (0, 1)
           for name in ('phi.weight', 'phi.bias', 'fuse.weight', 'fuse.bias')]
    assert problems.missing_keys == new and problems.unexpected_keys == []
    recognizer = MODELS.build(dict(
        _scope_='mmaction', type='Recognizer3D',
        backbone=dict(type='ReducedTimeSformer', **TINY, attention_type=kind,
                      reducers=MERGES),
        cls_head=dict(type='TimeSformerHead', num_classes=3, in_channels=C)))
    file = {f'backbone.{name}': value for name, value in dense.items()}
    file |= {name: value for name, value in recognizer.state_dict().items()
             if name.startswith(('cls_head.', 'backbone.reducers.'))}
    assert not any(compare_state(recognizer, file))
    before = dict(file)
    load_state_dict(recognizer, file, strict=True)  # raises for what is left over
    assert file.keys() == before.keys()  # the caller's is not touched
    for name, value in recognizer.backbone.state_dict().items():
        if name in dense:
            assert torch.equal(value, dense[name]), name
    without = {name: value for name, value in file.items() if 'attentions' not in name}
    missing = compare_state(recognizer, without).missing
    layer = 'backbone.transformer_layers.layers.3.attentions.'
    assert {name.removeprefix(layer)[0] for name in missing
            if name.startswith(layer)} == ({'1'} if kind == DIVIDED else {'0'})


def test_its_own_checkpoint_loads():
    model = randomize(host(reducers=MERGES))
    twin = host(reducers=MERGES).eval()
    twin.load_state_dict(model.state_dict())
    x = torch.randn(1, *CLIP)
    assert torch.equal(output(twin, x), output(model, x))


@TYPES
def test_image_weights_are_taken_over_as_in_mmaction2(kind, tmp_path):
    with DefaultScope.overwrite_default_scope('mmaction'):
        image = TimeSformer(**TINY, attention_type='space_only')
    path = str(tmp_path / 'image.pth')
    torch.save(randomize(image).state_dict(), path)
    dense = dense_host(attention_type=kind, pretrained=path)
    reduced = host(kind, MERGES, pretrained=path)
    dense.init_weights()
    reduced.init_weights()
    want, got = dense.state_dict(), reduced.state_dict()
    common = want.keys() & got.keys()
    assert len(common) == len(want) - (16 if kind == DIVIDED else 0)
    for name in common:
        assert torch.equal(got[name], want[name]), name
    spatial_weight = 'transformer_layers.layers.3.attentions.{}.attn.in_proj_weight'
    assert torch.equal(got[spatial_weight.format(int(kind == DIVIDED))],
                       image.state_dict()[spatial_weight.format(0)])


def test_merges_share_their_parameters_where_told_to():
    one = host(reducers=MERGES, share_merging=True)
    first, second = one.reducers
    assert second.phi is first.phi and second.fuse is first.fuse
    assert one.state_dict().keys() == host(reducers=MERGES).state_dict().keys()
    saved = sum(p.numel() for p in first.parameters())
    count = [sum(p.numel() for p in model.parameters())
             for model in (host(reducers=MERGES), one)]
    assert count == [count[1] + saved, count[1]] and saved == 3 * C**2 + 2 * C
    twin = host(reducers=MERGES, share_merging=True).eval()
    twin.load_state_dict(randomize(one).state_dict())
    x = torch.randn(1, *CLIP)
    assert torch.equal(output(twin, x), output(one, x))
    with pytest.raises(ValueError, match='share parameters of equal shapes only'):
        host(reducers=[merging(1), merging(2, motion=False)], share_merging=True)


@pytest.mark.parametrize('reducers', [
    [], [merging(1)], [merging(1), merging(2, ratio=0)],
    [merging(1), merging(2, strategy='bipartite')],
], ids=['none', 'one', 'ratio 0', 'bipartite'])
def test_sharing_takes_two_merges(reducers):
    with pytest.raises(ValueError, match=(
            'ReducedTimeSformer: share_merging=True needs two merges that have paramet'
            f'ers, there are {min(len(reducers), 1)}')):
        host(reducers=reducers, share_merging=True)


def test_a_checkpoint_of_merges_that_do_not_share_leaves_the_last_ones_values():
    """As docs/sttm.md says."""
    apart = randomize(host(reducers=MERGES))
    shared = host(reducers=MERGES, share_merging=True)
    shared.load_state_dict(apart.state_dict())
    assert torch.equal(shared.reducers[0].phi.weight, apart.reducers[1].phi.weight)


def test_copies_have_their_own_reducers():
    model = randomize(host(reducers=MERGES))
    twin = copy.deepcopy(model)
    used = {id(m) for group in twin._reducers_before.values() for m in group}
    assert used == {id(m) for m in twin.reducers}
    assert not used & {id(m) for m in model.reducers}
    x = torch.randn(1, *CLIP)
    want = output(model, x)
    randomize(model)
    assert torch.equal(output(twin, x), want)
    twin.load_state_dict(dense_host().state_dict(), strict=False)  # drops on its own


def test_layers_of_another_order_are_refused():
    """Of one's own, by mmaction2's ``transformer_layers``; in its order they serve."""
    def layers(order):
        return dict(
            type='TransformerLayerSequence', num_layers=4, transformerlayers=dict(
                type='BaseTransformerLayer', operation_order=order, batch_first=True,
                attn_cfgs=dict(type='MultiheadAttention', embed_dims=C,
                               num_heads=HEADS),
                ffn_cfgs=dict(type='FFN', embed_dims=C, feedforward_channels=40)))

    order = ('norm', 'self_attn', 'norm', 'ffn')
    dense, reduced = dense_host(attention_type=JOINT, transformer_layers=layers(
        order)), host(JOINT, transformer_layers=layers(order))
    randomize(dense), randomize(reduced)
    reduced.load_state_dict(dense.state_dict())
    x = torch.randn(1, *CLIP)
    assert_close(output(reduced, x), output(dense, x), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match='ReducedTimeSformer: transformer_layers with o'
                       r"peration_order=\('self_attn', .*\): allowed with this attentio"
                       r"n_type is \('norm', 'self_attn', 'norm', 'ffn'\)"):
        host(JOINT, transformer_layers=layers(('self_attn', 'norm', 'ffn', 'norm')))


@pytest.mark.parametrize('kind,width,heads,dense,merged', [
    (JOINT, 384, 6, 21.8, 22.7), (JOINT, 768, 12, 86.1, 89.6),
    (DIVIDED, 768, 12, 121.6, 107.4)], ids=['ViT-S', 'ViT-B', 'TimeSformer'])
def test_parameters_of_table_6(kind, width, heads, dense, merged):
    head = 400 * width + 400
    for millions, reducers in ((dense, []), (merged, [merging(6), merging(9, 'clip')])):
        with torch.device('meta'):
            model = ReducedTimeSformer(
                num_frames=8, img_size=224, patch_size=16, embed_dims=width,
                num_heads=heads, attention_type=kind, reducers=reducers)
        count = sum(p.numel() for p in model.parameters()) + head
        assert count / 1e6 == pytest.approx(millions, abs=0.1)
