# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""The deformable hosts: size, cost, dense weights, and their contracts (DVT)."""
import copy

import pytest
import torch
from mmaction.registry import MODELS
from mmengine.registry import DefaultScope
from tiny_hosts import dense_host, inputs_of, randomize
from torch.testing import assert_close

from mmaction_tokenreduce.evaluation import count_complexity
from mmaction_tokenreduce.models import DVTMViT, DVTTimeSformer, ReducedMViT

V1 = dict(dim_mul_in_attention=False, rel_pos_embed=False, residual_pooling=False,
          pool_query='downscale')
TINY = dict(arch=dict(embed_dims=8, num_layers=4, num_heads=1,
                      downscale_indices=[1, 3]),
            spatial_size=32, temporal_size=8, separable_pos_embed=True)
VIT = dict(num_frames=8, img_size=32, patch_size=8, embed_dims=24, num_heads=3,
           num_transformer_layers=3)
KINDS = [dict(attention='st'), dict(attention='ms'),
         dict(attention='st+ms', fusion='linear'),
         dict(attention='st+ms', fusion='mlp')]
BY_KIND = pytest.mark.parametrize('kind', KINDS,
                                  ids=lambda kind: '-'.join(kind.values()))


def mvit(**kwargs):
    return DVTMViT(**{**TINY, 'sub_clips': 2, **kwargs})


def vit(**kwargs):
    return DVTTimeSformer(**{**VIT, 'sub_clips': 2, **kwargs})


def clips(batch=2, side=32):
    return (torch.randn(batch, 3, 8, side, side),
            torch.randn(batch, 2, 8, side // 4, side // 4) * 4)


def features(model, *args):
    out = model(*args)
    return out[-1].mean((2, 3, 4)) if isinstance(out, tuple) else out


BOTH = pytest.mark.parametrize('make', [mvit, vit])

def test_sampling_is_counted():
    model = mvit(attention='st').to('meta')
    args = [part.to('meta') for part in clips(1)]
    counted = count_complexity(model, tuple(args))
    # Tokens of each block's queries x points x frames of a sub-clip x neighbours.
    queries = [(4 * 64, 8), (4 * 16, 16), (4 * 16, 16), (4 * 4, 32)]
    reads = sum(tokens * width * 8 * 2 * 4 for tokens, width in queries)
    assert counted.operators['sampling'] == reads


def test_dense_mvit_initialises_what_is_shared():
    dense = randomize(ReducedMViT(**TINY, **V1))
    for kind in KINDS:
        model = mvit(**kind)
        result = model.load_state_dict(dense.state_dict(), strict=False)
        assert not result.unexpected_keys
        new = ('choose', 'fusion', 'multi_scale.pool')
        assert all(any(part in key for part in new) for key in result.missing_keys)
        for block, old in zip(model.blocks, dense.blocks, strict=True):
            for part in (block.attn.space_time, block.attn.multi_scale):
                if part is not None:
                    assert_close(part.value.weight, old.attn.qkv.weight.chunk(3)[2])
                    assert_close(part.value.bias, old.attn.qkv.bias.chunk(3)[2])
                    assert_close(part.proj.weight, old.attn.proj.weight)
            assert (block.attn.pool_q is None) == (old.attn.pool_q is None)
        assert_close(model.pos_embed_spatial, dense.pos_embed_spatial)


@pytest.mark.parametrize('kind', ['divided_space_time', 'joint_space_time'])
def test_dense_timesformer_initialises_what_is_shared(kind):
    dense = randomize(dense_host(attention_type=kind, num_transformer_layers=3))
    model = vit()
    result = model.load_state_dict(dense.state_dict(), strict=False)
    assert not result.unexpected_keys
    new = ('choose', 'fusion', 'multi_scale.pool')
    assert all(any(part in key for part in new) for key in result.missing_keys)
    divided = kind.startswith('divided')
    for layer, old in zip(model.transformer_layers.layers,
                          dense.transformer_layers.layers, strict=True):
        space = old.attentions[1 if divided else 0]
        for part in (layer.attn.space_time, layer.attn.multi_scale):
            assert_close(part.value.weight, space.attn.in_proj_weight.chunk(3)[2])
            assert_close(part.value.bias, space.attn.in_proj_bias.chunk(3)[2])
            assert_close(part.proj.weight, space.attn.out_proj.weight)
        norms = [space.norm, old.ffns[0].norm] if divided else old.norms
        for norm, old_norm in zip(layer.norms, norms, strict=True):
            assert_close(norm.weight, old_norm.weight)
        assert_close(layer.ffns[0].layers[1].weight, old.ffns[0].layers[1].weight)
    assert_close(model.patch_embed.projection.weight[:, :, 1],
                 dense.patch_embed.projection.weight / 2)
    assert_close(model.pos_embed, dense.pos_embed[:, 1:])


def test_the_order_of_keys_does_not_matter():
    state = randomize(dense_host(num_transformer_layers=3)).state_dict()
    models = [vit(), vit()]
    for model, names in zip(models, (list(state), list(state)[::-1]), strict=True):
        for parameter in model.parameters():
            torch.nn.init.ones_(parameter)
        result = model.load_state_dict({name: state[name] for name in names},
                                       strict=False)
        assert not result.unexpected_keys
    for a, b in zip(*(model.parameters() for model in models), strict=True):
        assert_close(a, b)


def test_a_still_clip_has_the_patches_of_the_image_model():
    dense, model = randomize(dense_host()), vit()
    model.load_state_dict(dense.state_dict(), strict=False)
    image = torch.randn(1, 3, 32, 32)
    still = image.unsqueeze(2).expand(-1, -1, 8, -1, -1)
    want = dense.patch_embed.projection(image)
    got = model.patch_embed.projection(still)
    assert_close(got, want.unsqueeze(2).expand_as(got), rtol=1e-4, atol=1e-5)


def test_embeddings_of_another_size_are_resized():
    dense = randomize(dense_host(num_frames=6, num_transformer_layers=3))
    with torch.no_grad():  # the row, and the frame, as the embedding
        row = torch.arange(4.0).repeat_interleave(4)
        dense.pos_embed[:, 1:] = row.view(1, 16, 1)
        dense.time_embed[:] = torch.arange(6.0).view(1, 6, 1)
    model = vit(img_size=(48, 32))
    result = model.load_state_dict(dense.state_dict(), strict=False)
    assert not result.unexpected_keys
    # Centres of 6 rows among 4; PyTorch's cubic is a little off a ramp.
    rows = model.pos_embed.view(6, 4, 24)[2:4]
    want = ((torch.arange(2, 4) + 0.5) * 4 / 6 - 0.5).view(2, 1, 1).expand_as(rows)
    assert_close(rows, want, rtol=0, atol=0.06)
    frames = ((torch.arange(4) + 0.5) * 6 / 4 - 0.5).view(1, 4, 1)
    assert_close(model.time_embed.detach(), frames.expand(-1, -1, 24))


@BOTH
def test_checkpoints_of_its_own_load_unchanged(make):
    model = randomize(make(attention='st+ms'))
    other = make(attention='st+ms')
    other.load_state_dict(model.state_dict())
    other.eval()
    args = clips()
    assert_close(features(other, *args), features(model, *args), rtol=0, atol=0)


@BOTH
@BY_KIND
def test_every_parameter_gets_a_gradient(make, kind):
    model = make(**kind)
    model.init_weights()
    features(model, *clips()).square().sum().backward()
    unused = {name for name, parameter in model.named_parameters()
              if parameter.requires_grad
              and (parameter.grad is None or not parameter.grad.abs().sum())}
    assert not unused


@BOTH
def test_a_still_video_trains(make):
    model = make(attention='st+ms')
    model.init_weights()
    imgs, motion = clips()
    still = imgs[:, :, :1].expand_as(imgs)
    features(model, still, torch.zeros_like(motion)).square().sum().backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert parameter.grad.isfinite().all(), name


@BOTH
def test_motion_leads_the_queries(make):
    model = randomize(make(attention='st'))
    imgs, motion = clips()
    one = features(model, imgs, motion)
    assert not torch.allclose(one, features(model, imgs, -motion), atol=1e-3)
    # The field of a clip's first frame, and those between sub-clips, lead nowhere.
    other = motion.clone()
    other[:, :, 0] = 50.0
    assert_close(one, features(model, imgs, other))


@BOTH
def test_only_frames_of_the_same_sub_clip_are_attended_to(make):
    model = randomize(make(attention='st'))
    seen = []
    attention = (model.blocks[0] if hasattr(model, 'blocks')
                 else model.transformer_layers.layers[0]).attn.space_time
    attention.register_forward_hook(lambda module, args, out: seen.append(out))
    attention_in = []
    attention.register_forward_pre_hook(lambda m, args: attention_in.append(args))
    imgs, motion = clips(1)
    features(model, imgs, motion)
    x, query, base, cue = attention_in[0]
    changed = x.clone()
    changed[:, 2:] += 1.0  # the second of two sub-clips
    out = attention(changed, query, base, cue)
    assert_close(out[:, :2], seen[0][:, :2])
    assert not torch.allclose(out[:, 2:], seen[0][:, 2:], atol=1e-3)


@BOTH
@BY_KIND
def test_checkpointing_changes_nothing(make, kind):
    model = make(**kind)
    twin = make(**kind, with_cp=True)
    twin.load_state_dict(model.state_dict())
    imgs, motion = clips()
    for one in (model, twin):
        one.train()
        for module in one.modules():
            if type(module).__name__ == 'DropPath':
                module.drop_prob = 0.0
        layers = one.blocks if make is mvit else one.transformer_layers.layers
        calls = [inputs_of(layer) for layer in layers]
        features(one, imgs, motion).square().sum().backward()
        assert [len(layer) for layer in calls] == [1 + (one is twin)] * len(layers)
    for (name, a), b in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize('make,size', [
    (mvit, dict(arch=dict(TINY['arch'], num_layers=2, downscale_indices=[1]))),
    (vit, dict(num_transformer_layers=2))], ids=['mvit', 'vit'])
def test_compiled_as_one_graph(make, size):
    model = randomize(make(attention='st+ms', **size))
    args = clips()
    compiled = torch.compile(copy.deepcopy(model), backend='eager', fullgraph=True)
    with torch.no_grad():
        assert_close(features(compiled, *args), features(model, *args))


@BOTH
def test_what_needs_no_fields_takes_none(make):
    imgs, _ = clips()
    for kwargs in (dict(attention='ms'), dict(attention='st', cue='rgb_difference'),
                   dict(attention='st', cue='rgb_average')):
        features(make(**kwargs), imgs)
    with pytest.raises(ValueError, match="cue='motion' needs"):
        make(attention='st')(imgs)


def test_an_input_of_another_size():
    model = randomize(mvit(attention='st+ms'))
    assert model(*clips(side=64))[-1].shape == (2, 32, 4, 4, 4)
    with pytest.raises(ValueError, match='position embeddings are for 8x32x32'):
        vit()(*clips(side=64))


@BOTH
@pytest.mark.parametrize('kwargs,message', [
    (dict(attention='space'), "attention='space': allowed are st, ms, st\\+ms"),
    (dict(fusion='sum'), "fusion='sum': allowed are linear, mlp"),
    (dict(cue='flow'), "cue='flow': allowed are motion, rgb_residual"),
    (dict(points=0), 'points=0: must be a whole number'),
    (dict(sub_clips=3), 'sub_clips=3: must divide the 4 token frames'),
    (dict(motion_stride=3), 'motion_stride=3: must divide the'),
    (dict(motion_unit=0), 'motion_unit=0: must be a number above 0'),
    (dict(motion_unit='a'), "motion_unit='a': must be a number above 0"),
])
def test_bad_arguments_are_named(make, kwargs, message):
    with pytest.raises(ValueError, match=message):
        make(**kwargs)


@pytest.mark.parametrize('kwargs', [
    dict(with_cls_token=True), dict(rel_pos_embed=True), dict(qkv_bias=False),
    dict(reducers=[dict(type='TemporalSelection', before=0, keep=0.5)])])
def test_mvit_refuses_what_it_does_not_have(kwargs):
    name = next(iter(kwargs))
    with pytest.raises(ValueError, match=f'DVTMViT: {name}=.*allowed is'):
        mvit(**kwargs)


def test_mvit_refuses_what_would_have_no_effect():
    with pytest.raises(ValueError, match='DVTMViT: adaptive_kv_stride is not among'):
        mvit(adaptive_kv_stride=(1, 8, 8))


def test_clips_that_do_not_fit_are_refused():
    imgs, motion = clips()
    with pytest.raises(ValueError, match='clips of 7 frames make 4 token frames'):
        mvit()(imgs[:, :, :7], motion[:, :, :7])
    with pytest.raises(ValueError, match='frames of 36x36: height and width must be '
                                         'multiples of 16'):
        mvit()(*clips(side=36))


def test_motion_is_read_around_the_query():
    """In MViT, whose tokens are centred on multiples of the stride."""
    model = mvit(attention='st')
    for block, patch in zip(model.blocks, (1, 2, 2, 4), strict=True):
        choose = block.attn.space_time.choose
        side = 8 // patch
        cue = torch.zeros(1, 2, 2, 2, 2, 8, 8, requires_grad=True)
        query = torch.zeros(1, 4, side * side, choose.offset.in_features)
        places = torch.zeros(side * side, 2)
        middle = side // 2 * side + side // 2
        choose(query, places, cue).xy[0, 0, middle].square().sum().backward()
        read = cue.grad.abs().sum((0, 1, 2, 3, 4)).nonzero()
        first, last = read.min(0).values, read.max(0).values
        centre = side // 2 * patch  # in cells; the query stands on this corner
        assert first.tolist() == [centre - patch // 2] * 2
        assert last.tolist() == [centre - patch // 2 + patch - 1] * 2


@pytest.mark.parametrize('name', ['attention_type', 'pretrained',
                                  'transformer_layers'])
def test_vit_refuses_what_it_does_not_have(name):
    with pytest.raises(ValueError, match=f'DVTTimeSformer: {name} is not among'):
        vit(**{name: 'divided_space_time'})
    for size in (3, 2.0):
        with pytest.raises(ValueError, match=f'tubelet_size={size}: must divide'):
            vit(tubelet_size=size)


def test_both_are_built_by_name():
    with DefaultScope.overwrite_default_scope('mmaction'):
        assert isinstance(MODELS.build(dict(type='DVTMViT', **TINY, sub_clips=2)),
                          DVTMViT)
        assert isinstance(MODELS.build(dict(type='DVTTimeSformer', **VIT, sub_clips=2)),
                          DVTTimeSformer)
