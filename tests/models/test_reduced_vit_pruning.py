# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""EVAD's encoder: ReducedViT that drops tokens inside its blocks."""
import copy

import pytest
import torch
import torch.nn.functional as F
from mmaction.models.backbones.vit_mae import VisionTransformer
from mmaction.registry import MODELS
from tiny_hosts import inputs_of, merging, output, randomize, spatial, temporal
from tiny_pruning import (
    ALL,
    CLIP,
    KEY,
    THW,
    VIT,
    C,
    N,
    decisions_of,
    naive_encoder,
    pruning,
    vit,
)
from torch.testing import assert_close

from mmaction_tokenreduce.convert import convert_state_dict
from mmaction_tokenreduce.convert.videomae import vit_rules
from mmaction_tokenreduce.layers import SelectionError
from mmaction_tokenreduce.models import ReducedViT
from mmaction_tokenreduce.ops import keyframe_first


@pytest.mark.parametrize('keep,weight,unified', [
    (0.7, 1.0, False), (0.6, 4.0, False), (0.7, 1.0, True), (0.6, 4.0, True)])
def test_the_encoder_by_its_equations(keep, weight, unified):
    model = vit([pruning(i, keep, keyframe_weight=weight, unified=unified)
                 for i in (1, 2)], out_indices=(0, 3), return_dropped=True,
                use_mean_pooling=False)
    clips = torch.randn(2, *CLIP)
    got = output(model, clips)
    assert got.thw == THW and got.valid is None
    for b in range(2):
        with torch.no_grad():
            kept, gone = naive_encoder(model, clips[b:b + 1], (1, keep, keep, 1),
                                       weight, unified)
        assert got.places[b].tolist() == list(kept)
        assert_close(got.tokens[b], model.norm(torch.stack([*kept.values()])),
                     rtol=1e-3, atol=1e-4)
        values, places = got.dropped
        assert sorted(places[b].tolist()) == sorted(gone)
        assert_close(values[b], model.norm(torch.stack(
            [gone[place] for place in places[b].tolist()])), rtol=1e-3, atol=1e-4)
        frame = torch.stack([{**gone, **kept}[place] for place in KEY])
        assert_close(got.keyframe_maps[1][b], frame.T.reshape(C, 4, 4), rtol=1e-3,
                     atol=1e-3)
        if not unified:
            assert got.places[b, :16].tolist() == KEY


@pytest.mark.parametrize('name', ['r07', 'r06_w4'])
@pytest.mark.parametrize('grad', [False, True])
def test_parity_with_the_release(shared_dir, name, grad):
    """Its pruning blocks alone; the input comes through patches of one value."""
    case = torch.load(shared_dir / 'parity' / 'evad_encoder.pt')[name]
    cfg = case['cfg']
    thw, width, depth = tuple(cfg['grid']), cfg['dim'], cfg['depth']
    order = keyframe_first(thw, 'cpu')  # the file's tokens stand so
    model = ReducedViT(
        img_size=thw[1], patch_size=1, tubelet_size=1, in_channels=width,
        embed_dims=width, depth=depth, num_heads=cfg['num_heads'], num_frames=thw[0],
        out_indices=(depth - 1, ), use_mean_pooling=False,
        reducers=[pruning(i, keep, keyframe_weight=cfg['keyframe_weight'])
                  for i, keep in enumerate(cfg['keep_rates'])]).eval()
    blocks = {f'backbone.{name}': value for name, value in model.state_dict().items()
              if name.startswith('blocks.')}
    converted = convert_state_dict(case['state_dict'], vit_rules(), blocks, 'parity')
    weights = {name.removeprefix('backbone.'): value
               for name, value in converted.state_dict.items()}
    assert all('blocks.' not in name
               for name in model.load_state_dict(weights, strict=False).missing_keys)
    model.norm, model.pos_embed[:] = torch.nn.Identity(), 0
    torch.nn.init.zeros_(model.patch_embed.projection.bias)
    model.patch_embed.projection.weight.data[:] = torch.eye(width).view(
        width, width, 1, 1, 1)
    clip = case['input'][:, order.argsort()].mT.unflatten(2, thw)
    with torch.set_grad_enabled(grad):
        got = model(clip)
    own = thw[1] * thw[2]
    index = order.argsort()[got.places]
    assert index[:, :own].tolist() == [list(range(own))] * len(index)
    assert torch.equal(index[:, own:] - own, case['kept_nonkey_index'])
    assert_close(got.tokens.detach(), case['tokens'], rtol=1e-5, atol=1e-5)


def test_keeping_all_is_the_identity():
    dense = vit()
    reduced = vit([pruning(i, 1) for i in ALL])
    reduced.load_state_dict(dense.state_dict())  # strict: nothing more, nothing less
    x = torch.randn(2, *CLIP)
    assert torch.equal(output(reduced, x), output(dense, x))
    clips = []
    for reducers in ((), [pruning(1, 1)]):
        model = vit(reducers, out_indices=ALL)
        model.load_state_dict(dense.state_dict())
        clips.append(output(model, x))
    assert_close(clips[1], clips[0], rtol=0, atol=0)


def test_what_a_dense_model_hands_over():
    """The keyframe, frames before it, frames after it; maps before the final norm."""
    model = vit(out_indices=(0, 3))
    dense = randomize(VisionTransformer(**VIT))
    dense.load_state_dict(model.state_dict())
    x, seen = torch.randn(2, *CLIP), []
    for block in dense.blocks:
        block.register_forward_hook(lambda module, args, out: seen.append(out))
    output(dense, x)
    got = output(model, x)
    order = KEY + list(range(32)) + list(range(48, 64))
    assert got.places.tolist() == [order] * 2
    assert_close(got.tokens, F.layer_norm(
        seen[3], (C, ), model.fc_norm.weight, model.fc_norm.bias, 1e-6)[:, order],
        rtol=1e-3, atol=1e-4)
    for got_map, block in zip(got.keyframe_maps, (0, 3), strict=True):
        want = seen[block][:, KEY].mT.reshape(2, C, 4, 4)
        assert got_map.is_contiguous()
        assert_close(got_map, want, rtol=1e-3, atol=1e-4)
    assert got.valid is None and got.dropped is None


def test_what_was_dropped_is_none_where_nothing_was():
    got = output(vit(out_indices=(3, ), return_dropped=True), torch.randn(2, *CLIP))
    assert got.dropped[0].shape == (2, 0, C) and got.dropped[1].shape == (2, 0)


@pytest.mark.parametrize('reducers', [
    [pruning(1), pruning(2)], [pruning(1, strategy='random')],
    [pruning(0, unified=True), pruning(3, 0.5, unified=True)],
    [dict(type='KeyframePruning', before=0, keep=0.7, strategy='random'), pruning(2)],
], ids=['paper', 'random', 'unified', 'masked'])
@pytest.mark.parametrize('norm', [dict(), dict(use_mean_pooling=False)], ids=str)
def test_a_restored_map_holds_every_value(reducers, norm):
    """Kept places that of the last block, dropped places that of when they went."""
    model = vit(reducers, return_feat_map=True, **norm)
    places, last = decisions_of(model), []
    model.blocks[3].register_forward_hook(lambda module, args, out: last.append(out[0]))
    calls = [inputs_of(reducer) for reducer in model.reducers]
    got = output(model, torch.randn(2, *CLIP))
    assert got.shape == (2, C, *THW)
    flat, gone = got.flatten(2).mT, [0, 0]
    assert_close(flat.take_along_dim(places[-1].unsqueeze(-1), 1), model.norm(last[0]))
    for call, kept in zip(calls, places[1:], strict=True):
        tokens, where = call[0][:2]
        for b in range(2):
            for token, place in zip(tokens[b], where[b].tolist(), strict=True):
                if place not in kept[b].tolist():
                    assert_close(flat[b, place], model.norm(token))
                    gone[b] += 1
    assert gone == [N - places[-1].shape[1]] * 2


def test_classification_reads_the_mean_of_what_is_left():
    model, x = vit([pruning(1), pruning(3)]), torch.randn(2, *CLIP)
    last = []
    model.blocks[3].register_forward_hook(lambda module, args, out: last.append(out[0]))
    got = output(model, x)
    assert last[0].shape == (2, 32, C)  # ceil(0.7 * 64) = 45, ceil(0.7 * 45) = 32
    assert_close(got, model.fc_norm(last[0].mean(1)))


def test_clips_of_another_size():
    """6x5 places a frame; 120, 84, 59 tokens."""
    model = vit([pruning(1), pruning(2)], out_indices=(3, ))
    got = output(model, torch.randn(1, 3, 8, 48, 44))
    assert got.thw == (4, 6, 5) and got.tokens.shape == (1, 59, C)
    assert got.places[0, :30].tolist() == list(range(60, 90))
    assert got.keyframe_maps[0].shape == (1, C, 6, 5)
    with pytest.raises(SelectionError, match='keep=0.3 leaves 20 of 64 tokens, and the '
                       'keyframe alone has 16|keep=0.3 leaves 6 of 20 tokens'):
        output(vit([pruning(1, 0.3), pruning(2, 0.3)]), torch.randn(1, *CLIP))


def test_views_of_a_batch_do_not_mix():
    model = vit([pruning(1), pruning(2, strategy='random')], out_indices=(3, ))
    x = torch.randn(3, *CLIP)
    together, alone = output(model, x), output(model, x[1:2])
    assert torch.equal(together.places[1:2], alone.places)
    assert_close(together.tokens[1:2], alone.tokens, rtol=1e-4, atol=1e-4)
    assert not torch.equal(together.places[0], together.places[1])


@pytest.mark.parametrize('kwargs', [
    dict(), dict(use_learnable_pos_emb=True, init_values=0.1, qkv_bias=False)], ids=str)
@pytest.mark.parametrize('reducers', [
    [pruning(1), pruning(2, keyframe_weight=4)], [pruning(0, strategy='random')],
    [temporal(0, 0.75), spatial(1, 0.6), pruning(2)],
    [pruning(1), merging(2, 'clip'), merging(3, 'clip')],
], ids=['paper', 'random', 'selected', 'merged'])
def test_any_reducers_train(reducers, kwargs):
    model = vit(reducers, **kwargs).train()
    model(torch.randn(2, *CLIP)).square().sum().backward()
    check_gradients(model)


def check_gradients(model):
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
        # min-max normalisation takes a shift of all scores out
        assert parameter.grad.any() or name.endswith('score_net.head.4.bias'), name


def detection_loss(clip):
    parts = [clip.tokens, *clip.keyframe_maps, *(clip.dropped or ())[:1]]
    return sum(part.square().mean() for part in parts)


@pytest.mark.parametrize('unified', [False, True])
def test_a_detector_trains_all_of_it(unified):
    model = vit([pruning(i, unified=unified) for i in (1, 2)], out_indices=ALL,
                return_dropped=True, use_mean_pooling=False).train()
    detection_loss(model(torch.randn(2, *CLIP))).backward()
    check_gradients(model)


@pytest.mark.parametrize('strategy', ['attention', 'random'])
def test_activation_checkpointing_changes_nothing(strategy):
    x, results = torch.randn(2, *CLIP), []
    for with_cp in (False, True):
        torch.manual_seed(7)
        model = vit([pruning(i, strategy=strategy) for i in (1, 2)], out_indices=ALL,
                    return_dropped=True, drop_rate=0.1, attn_drop_rate=0.1,
                    drop_path_rate=0.2, with_cp=with_cp)
        calls = [inputs_of(block) for block in model.blocks]
        clip = model.train()(x)
        detection_loss(clip).backward()
        assert [len(block) for block in calls] == [1 + with_cp] * 4
        results.append([clip.tokens.detach(), clip.places,
                        *(p.grad for p in model.parameters())])
    for plain, recomputed in zip(*results, strict=True):
        assert_close(recomputed, plain)


def test_compiles_without_a_graph_break():
    model = vit([pruning(0), pruning(1, keyframe_weight=4)], depth=3,
                out_indices=(0, 2))
    compiled = torch.compile(model, backend='aot_eager', fullgraph=True)
    x = torch.randn(1, *CLIP)
    got, want = output(compiled, x), output(model, x)
    assert torch.equal(got.places, want.places)
    assert_close(got.tokens, want.tokens, rtol=1e-4, atol=1e-4)


def test_works_under_autocast():
    model = vit([pruning(1), pruning(2)], out_indices=ALL).train()
    seen = inputs_of(model.reducers[1])
    with torch.autocast('cpu', torch.bfloat16):
        clip = model(torch.randn(2, *CLIP))
    detection_loss(clip).backward()
    check_gradients(model)
    x, places, _, importance, _ = seen[0]
    assert x.dtype == importance.dtype == torch.float32
    assert clip.keyframe_maps[3].dtype == torch.float32
    assert places.dtype == torch.int64


def test_copies_have_their_own_reducers():
    model = vit([pruning(1), pruning(2)])
    twin = copy.deepcopy(model)
    used = {id(m) for group in twin._reducers_within.values() for m in group}
    assert used == {id(m) for m in twin.reducers}
    assert not used & {id(m) for m in model.reducers}


def test_a_dense_checkpoint_loads_strictly():
    dense = randomize(VisionTransformer(**VIT)).state_dict()
    model = MODELS.build(dict(
        _scope_='mmaction', type='ReducedViT', **VIT, reducers=[pruning(2)]))
    model.load_state_dict(dense)


def test_merging_after_pruning_gets_what_goes_with_its_tokens():
    model = vit([pruning(1), merging(2, 'clip')])
    calls, pruned = (inputs_of(model.reducers[i]) for i in (1, 0))
    seen = []
    model.reducers[0].choose.register_forward_hook(
        lambda module, args, out: seen.append(out.index))
    output(model, torch.randn(2, *CLIP))
    tokens, positions, scores = calls[0]
    assert tokens.shape == positions.shape == (2, 45, C)
    assert torch.equal(scores, pruned[0][3].gather(1, seen[0]))
    assert_close(positions, model.pos_embed[0][seen[0]])


def test_a_map_of_selected_frames_is_restored():
    got = output(vit([temporal(0, 0.75), pruning(2)], return_feat_map=True),
                 torch.randn(2, *CLIP))
    assert got.shape == (2, C, 3, 4, 4)


def test_selection_before_pruning_leaves_it_a_grid():
    """3 of 4 frames, then 3x3 of 4x4 places: the keyframe is the second of them."""
    model = vit([temporal(0, 0.75), spatial(1, 0.6), pruning(2)])
    calls = inputs_of(model.reducers[2])
    got = output(model, torch.randn(2, *CLIP))
    assert got.shape == (2, C)
    _, places, thw, *_ = calls[0]
    assert thw == (3, 3, 3) and places.tolist() == [list(range(27))] * 2
