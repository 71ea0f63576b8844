# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""ReducedViT on padded clips, and what it refuses."""
import pytest
import torch
from mmaction.registry import MODELS
from tiny_hosts import TINY, inputs_of, merging, output, spatial, temporal
from tiny_pruning import ALL, CLIP, KEY, VIT, C, N, naive_encoder, pruning, vit
from torch.testing import assert_close

PRUNED = [pruning(1, 0.7, keyframe_weight=4), pruning(2, 0.6, keyframe_weight=4)]


def padded_clips():
    """Two clips: one of 4x2 places in 4x4, one that fills them."""
    valid = torch.ones(2, 4, 4, dtype=torch.bool)
    valid[0, :, 2:] = False
    clips = torch.randn(2, *CLIP)
    clips[0, ..., 16:] = 0
    return clips, valid, [place for place in range(N) if place % 4 > 1]


def test_padding_takes_part_in_nothing():
    model = vit(PRUNED, out_indices=(0, 3), use_mean_pooling=False)
    clips, valid, padding = padded_clips()
    with torch.no_grad():
        got = model(clips, valid)
    assert got.tokens.shape == (2, 27, C)  # of 64 tokens 45, then 27
    for b, empty in enumerate((padding, ())):
        with torch.no_grad():
            kept, gone = naive_encoder(model, clips[b:b + 1], (1, 0.7, 0.6, 1), 4.0,
                                       padding=empty)
        held = got.valid[b]
        assert got.places[b, held].tolist() == list(kept)
        assert_close(got.tokens[b, held], model.norm(torch.stack([*kept.values()])),
                     rtol=1e-3, atol=1e-4)
        frame = {place: i for i, place in enumerate(KEY)}
        for place in KEY:
            if place in kept:
                row, column = divmod(frame[place], 4)
                assert_close(got.keyframe_maps[1][b, :, row, column], kept[place],
                             rtol=1e-3, atol=1e-3)
    assert got.places[:, :16].tolist() == [KEY] * 2
    assert got.valid[0, :16].tolist() == valid[0].flatten().tolist()
    assert got.valid[0, 16:].all() and got.valid[1].all()


def test_what_padding_holds_does_not_matter():
    model = vit(PRUNED, out_indices=ALL)
    clips, valid, _ = padded_clips()
    other = clips.clone()
    other[0, ..., 16:] = 9 * torch.randn(3, 8, 32, 16)
    outs = []
    for given in (clips, other):
        with torch.no_grad():
            outs.append(model(given, valid))
    assert torch.equal(outs[0].places[:, :16], outs[1].places[:, :16])
    for tokens in zip(*((out.tokens[out.valid], out.places[out.valid]) for out in outs),
                      strict=True):
        assert_close(*tokens)
    assert outs[0].tokens.isfinite().all()


def test_padding_stays_where_there_is_nothing_else_to_drop_of_it():
    """Of 64 tokens 58 stay; the other frames have 24 of padding and 24 of image."""
    model = vit([pruning(1, 0.9)], out_indices=(3, ), return_dropped=True)
    clips, valid, padding = padded_clips()
    with torch.no_grad():
        got = model(clips, valid)
    assert got.dropped[1].shape == (2, 6)
    assert set(got.dropped[1][0].tolist()) <= set(padding)
    held = sorted(got.places[0, got.valid[0]].tolist())
    assert held == [place for place in range(N) if place not in padding]


def test_all_valid_is_no_mask_at_all():
    model = vit(PRUNED, out_indices=(3, ))
    clips, valid = torch.randn(2, *CLIP), torch.ones(2, 4, 4, dtype=torch.bool)
    calls = inputs_of(model.blocks[0])
    with torch.no_grad():
        got = model(clips, valid)
    assert got.valid is None and calls[0][2] is None
    assert_close(got, output(model, clips), rtol=0, atol=0)


def test_a_classifier_reads_the_mean_of_the_image():
    model = vit(PRUNED)
    clips, valid, padding = padded_clips()
    with torch.no_grad():
        got = model(clips, valid)
        for b, empty in enumerate((padding, ())):
            kept, _ = naive_encoder(model, clips[b:b + 1], (1, 0.7, 0.6, 1), 4.0,
                                    padding=empty)
            mean = torch.stack([*kept.values()]).mean(0)
            assert_close(got[b], model.fc_norm(mean), rtol=1e-3, atol=1e-4)


def test_a_dense_model_hands_over_the_mask_in_its_order():
    clips, valid, padding = padded_clips()
    with torch.no_grad():
        got = vit(out_indices=(3, ))(clips, valid)
    want = [place not in padding for place in got.places[0].tolist()]
    assert got.valid[0].tolist() == want


def test_training_with_padding():
    clips, valid, _ = padded_clips()
    grads = []
    for with_cp in (False, True):
        torch.manual_seed(3)
        model = vit(PRUNED, with_cp=with_cp).train()
        model(clips, valid).square().sum().backward()
        grads.append([p.grad for p in model.parameters()])
        assert all(grad.isfinite().all() and grad.any() for grad in grads[-1])
    assert_close(grads[1], grads[0])


def test_compiles_with_a_mask():
    model = vit(PRUNED, out_indices=(3, ))
    compiled = torch.compile(model, backend='aot_eager', fullgraph=True)
    clips, valid, _ = padded_clips()
    with torch.no_grad():
        got, want = compiled(clips, valid), model(clips, valid)
    assert torch.equal(got.places, want.places) and torch.equal(got.valid, want.valid)
    assert_close(got.tokens[got.valid], want.tokens[got.valid], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('reducers,valid,message', [
    ([], torch.ones(2, 4, 4), r"valid must be \(B, H', W'\) bool of 4x4 token places "
     r'for 2 clips, got torch.float32 of shape \(2, 4, 4\)'),
    ([], torch.ones(2, 16).bool(), 'valid must be'),
    ([], torch.ones(2, 8, 8).bool(), r'valid must be .* got torch.bool of shape '
     r'\(2, 8, 8\)'),
    ([], torch.ones(1, 4, 4).bool(), r'valid must be .* for 2 clips'),
    ([], torch.zeros(2, 4, 4).bool(), 'valid marks a clip that is all padding'),
    ([merging(2)], torch.ones(2, 4, 4).bool(), 'TokenMerging knows nothing of padding'),
    ([temporal(2, 0.5)], torch.ones(2, 4, 4).bool(), 'TemporalSelection knows nothing'),
])
def test_masks_that_cannot_serve(reducers, valid, message):
    with pytest.raises(ValueError, match=f'^ReducedViT: {message}'):
        vit(reducers)(torch.randn(2, *CLIP), valid)


@pytest.mark.parametrize('reducers,kwargs,message', [
    ([pruning(4)], {}, r'reducers\[0\] \(KeyframePruning\): within=4: allowed are 0'),
    ([dict(type='KeyframePruning', keep=0.7)], {}, r'reducers\[0\] \(KeyframePruning\):'
     ' before=None: allowed are 0 to 3'),
    ([pruning(1, before=2)], {}, r'reducers\[0\] \(KeyframePruning\): before and within'
     ' exclude each other'),
    ([pruning(1, 1.5)], {}, r'reducers\[0\]: .*keep=1.5: must be a number in \(0, 1\]'),
    ([pruning(1, rho=0.5)], {}, r"reducers\[0\]: .*'rho'"),
    ([dict(type='KeyframePruning', before=2)], {}, r'reducers\[0\] \(KeyframePruning\) '
     r"before=2: strategy='attention' ranks tokens .* write within=2"),
    ([dict(type='TokenMerging', within=2)], {}, r'.*within=2: acts between blocks: writ'
     'e before=2'),
    ([dict(type='TemporalSelection', within=2, keep=0.5)], {}, '.*write before=2'),
    ([pruning(1), pruning(1)], {}, 'KeyframePruning within=1: another pruning acts ther'
     'e too; allowed is one'),
    ([pruning(1), pruning(2, unified=True)], {}, 'KeyframePruning within=2: unified=Tru'
     'e, but an earlier pruning has unified=False: allowed is one for all'),
    ([merging(1), pruning(2)], {}, 'KeyframePruning within=2: merging before=1 left no '
     'keyframe to prune around; prune first'),
    ([pruning(1), merging(2)], {}, r"TokenMerging \(scope='frame'\) before=2: pruning w"
     "ithin=1 left frames of unequal size; use scope='clip'"),
    ([pruning(1), temporal(2, 0.5)], {}, 'TemporalSelection before=2: pruning within=1 '
     'left no grid to select from; select first'),
    ([pruning(1)], dict(use_mean_pooling=False), 'use_mean_pooling=False reads the firs'
     't token, which KeyframePruning moves or drops'),
    ([], dict(return_dropped=True), 'return_dropped=True hands .* needs out_indices'),
    ([], dict(out_indices=()), r'out_indices=\(\): must be ascending numbers of'),
    ([], dict(out_indices=(3, 1)), r'out_indices=\(3, 1\): must be ascending numbers of'
     ' blocks, allowed are 0 to 3'),
    ([], dict(out_indices=(1, 4)), r'out_indices=\(1, 4\): must be'),
    ([], dict(out_indices=3), 'out_indices=3: must be'),
    ([], dict(out_indices=('last', )), r"out_indices=\('last',\): must be"),
    ([], dict(out_indices=(3, ), return_feat_map=True), r'out_indices=\(3,\) and return'
     '_feat_map=True exclude each other'),
    ([spatial(2, 0.5)], dict(out_indices=(3, )), r'out_indices=\(3,\) needs the whole k'
     'eyframe, which selection and merging do not leave; allowed is KeyframePruning'),
    ([merging(2)], dict(out_indices=(3, )), 'out_indices=.* needs the whole keyframe'),
])
def test_what_cannot_be_is_named(reducers, kwargs, message):
    with pytest.raises(ValueError, match=f'^ReducedViT: {message}'):
        MODELS.build(dict(type='ReducedViT', **{**VIT, **kwargs}, reducers=reducers))


@pytest.mark.parametrize('host,cfg', [
    ('ReducedTimeSformer', TINY),
    ('ReducedSwin3D', dict(arch='tiny', pretrained2d=False)),
    ('ReducedMViT', dict(arch='tiny')),
])
def test_other_hosts_refuse_to_prune(host, cfg):
    for place in (dict(within=1), dict(before=1, strategy='random')):
        reducer = dict(type='KeyframePruning', keep=0.7, **place)
        with pytest.raises(ValueError, match=(
                rf'^{host}: reducers\[0\] \(KeyframePruning\) \w+=1: {host} cannot drop'
                ' single tokens; hosts that can are: ReducedViT')):
            MODELS.build(dict(_scope_='mmaction', type=host, **cfg, reducers=[reducer]))


def test_what_keeps_all_may_stand_anywhere():
    vit([merging(1), pruning(2, 1), temporal(0, 1), pruning(2, 1, unified=True)])
    vit([temporal(1, 1), merging(1, ratio=0), pruning(2)], out_indices=(3, ))
