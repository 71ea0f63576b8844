# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Image ViTs under timm's names: what the video models make of a still picture."""
import importlib

import pytest
import torch
import torch.nn.functional as F
from mmaction.registry import MODELS
from torch.testing import assert_close

from mmaction_tokenreduce.convert import CONVERTERS, convert_timm_vit
from mmaction_tokenreduce.engine.hooks.check_load_hook import compare_state

C, HEADS, DEPTH, N = 24, 3, 2, 16
SIZES = dict(img_size=32, patch_size=8, embed_dims=C, num_heads=HEADS)
DIVIDED, JOINT = 'divided_space_time', 'joint_space_time'
MERGES = [dict(type='TokenMerging', before=1)]
ALLOWED = ('cls_head.', 'backbone.reducers.')  # to be missing where it is loaded


def image_weights(width=C, depth=DEPTH, patch=8, places=N, classes=5):
    """A state dict of timm's VisionTransformer, random."""
    sizes = {'cls_token': (1, 1, width), 'pos_embed': (1, 1 + places, width),
             'patch_embed.proj.weight': (width, 3, patch, patch),
             'patch_embed.proj.bias': (width, )}
    for i in range(depth):
        for name, rows, columns in (('attn.qkv', 3 * width, width),
                                    ('attn.proj', width, width),
                                    ('mlp.fc1', 4 * width, width),
                                    ('mlp.fc2', width, 4 * width)):
            sizes[f'blocks.{i}.{name}.weight'] = (rows, columns)
            sizes[f'blocks.{i}.{name}.bias'] = (rows, )
        for name in ('norm1.weight', 'norm1.bias', 'norm2.weight', 'norm2.bias'):
            sizes[f'blocks.{i}.{name}'] = (width, )
    sizes |= {'norm.weight': (width, ), 'norm.bias': (width, ),
              'head.weight': (classes, width), 'head.bias': (classes, )}
    return {name: torch.randn(size) * 0.3 for name, size in sizes.items()}


def image_blocks(state, x):
    """The blocks of an image ViT by their equations, x (B, L, C)."""
    def norm(name, x):
        return F.layer_norm(x, (C, ), state[f'{name}.weight'], state[f'{name}.bias'],
                            1e-6)

    def linear(name, x):
        return x @ state[f'{name}.weight'].T + state[f'{name}.bias']

    for i in range(DEPTH):
        q, k, v = linear(f'blocks.{i}.attn.qkv', norm(f'blocks.{i}.norm1', x)).chunk(
            3, -1)
        heads = [(a @ b.mT / (C / HEADS)**0.5).softmax(-1) @ c for a, b, c in
                 zip(q.chunk(HEADS, -1), k.chunk(HEADS, -1), v.chunk(HEADS, -1),
                     strict=True)]
        x = x + linear(f'blocks.{i}.attn.proj', torch.cat(heads, -1))
        hidden = F.gelu(linear(f'blocks.{i}.mlp.fc1', norm(f'blocks.{i}.norm2', x)))
        x = x + linear(f'blocks.{i}.mlp.fc2', hidden)
    return norm('norm', x)


def patches(state, image):
    x = F.conv2d(image, state['patch_embed.proj.weight'],
                 state['patch_embed.proj.bias'], stride=8)
    return x.flatten(2).transpose(1, 2)


def image_features(state, image):
    """The class token (B, C) of an image ViT."""
    cls = state['cls_token'].expand(len(image), -1, -1)
    x = torch.cat((cls, patches(state, image)), 1) + state['pos_embed']
    return image_blocks(state, x)[:, 0]


def recognizer(host, **backbone):
    return MODELS.build(dict(
        _scope_='mmaction', type='Recognizer3D',
        backbone=dict(type=host, **SIZES, **backbone),
        cls_head=dict(type='TimeSformerHead', num_classes=3, in_channels=C)))


def timesformer(kind, frames, reducers=(), depth=DEPTH):
    return recognizer('ReducedTimeSformer', attention_type=kind, num_frames=frames,
                      num_transformer_layers=depth, reducers=reducers)


def vit(**kwargs):
    return recognizer('ReducedViT', depth=DEPTH, **kwargs)


def loaded(state, model):
    """The model with converted weights, of which only the allowed may be missing."""
    torch.nn.init.normal_(next(model.backbone.parameters()))  # must be overwritten
    result = convert_timm_vit(state, model)
    mismatch = compare_state(model, result.state_dict)
    assert mismatch.unexpected == mismatch.reshaped == []
    assert all(name.startswith(ALLOWED) for name in mismatch.missing)
    assert mismatch.missing == list(result.initial)
    model.load_state_dict(result.state_dict, strict=False)
    return model.eval().backbone, result


def still(image, frames):
    return image.unsqueeze(2).repeat(1, 1, frames, 1, 1)


@pytest.mark.parametrize('kind,frames', [(DIVIDED, 4), (JOINT, 1)])
def test_timesformer_on_a_still_clip_is_the_image_model(kind, frames):
    """Jointly, a frame; with more, tokens outweigh the one class token."""
    state, image = image_weights(), torch.randn(2, 3, 32, 32)
    backbone, _ = loaded(state, timesformer(kind, frames))
    with torch.no_grad():
        got = backbone(still(image, frames))
    want = image_features(state, image)
    assert want.std() > 0.1
    assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_attention_over_time_is_a_copy_behind_zeros():
    state = image_weights()
    _, result = loaded(state, timesformer(DIVIDED, 4))
    new, layer = result.state_dict, 'backbone.transformer_layers.layers.1.attentions'
    for number in (0, 1):
        for name, old in (('attn.in_proj_weight', 'attn.qkv.weight'),
                          ('attn.out_proj.bias', 'attn.proj.bias'),
                          ('norm.weight', 'norm1.weight')):
            assert torch.equal(new[f'{layer}.{number}.{name}'],
                               state[f'blocks.1.{old}'])
    assert not new[f'{layer}.0.temporal_fc.weight'].any()
    assert new['backbone.time_embed'].shape == (1, 4, C)
    assert not new['backbone.time_embed'].any()
    assert result.dropped == {name: 'the image model has other classes'
                              for name in ('head.weight', 'head.bias')}
    assert result.sources[f'{layer}.0.norm.weight'] == 'blocks.1.norm1.weight [copy]'


def test_one_file_starts_dense_and_merged_models():
    state = image_weights()
    dense = timesformer(DIVIDED, 4)
    file = convert_timm_vit(state, dense).state_dict
    merged = timesformer(DIVIDED, 4, MERGES)
    assert all(name.startswith(ALLOWED) for name in compare_state(merged, file).missing)
    backbone, result = loaded(state, merged)  # made for it: without what it lacks
    gone = 'backbone.transformer_layers.layers.1.attentions.0.'
    assert file.keys() - result.state_dict.keys() == {
        name for name in file if name.startswith(gone)}
    reason = 'the image model has no reducers'
    assert [name for name, why in result.initial.items() if why == reason] == [
        f'backbone.reducers.0.{name}' for name in
        ('phi.weight', 'phi.bias', 'fuse.weight', 'fuse.bias')]
    with torch.no_grad():
        assert backbone(torch.randn(1, 3, 4, 32, 32)).isfinite().all()


@pytest.mark.parametrize('learned', [False, True])
def test_videomae_vit_on_a_still_tubelet_is_the_image_model(learned):
    """Without the class token, on its own positions; the keys' bias is not missed."""
    state, image = image_weights(), torch.randn(2, 3, 32, 32)
    model = vit(num_frames=3, tubelet_size=3, use_learnable_pos_emb=learned)
    fixed = model.backbone.pos_embed.detach().clone()
    backbone, result = loaded(state, model)
    with torch.no_grad():
        got = backbone(still(image, 3))
    positions = state['pos_embed'][:, 1:] if learned else fixed
    # the mean of normalised tokens in no model: fc_norm comes after the mean
    x = patches(state, image) + positions
    ends = {'norm.weight': torch.ones(C), 'norm.bias': torch.zeros(C)}
    tokens = []
    backbone.blocks[-1].register_forward_hook(
        lambda module, args, out: tokens.append(out[0]))
    with torch.no_grad():
        backbone(still(image, 3))
    assert_close(F.layer_norm(tokens[0], (C, ), eps=1e-6),
                 image_blocks(state | ends, x), rtol=1e-4, atol=1e-4)
    assert_close(got, F.layer_norm(tokens[0].mean(1), (C, ), state['norm.weight'],
                                   state['norm.bias'], 1e-6), rtol=1e-4, atol=1e-4)
    dropped = {'cls_token', 'head.weight', 'head.bias', 'blocks.0.attn.qkv.bias [k]',
               'blocks.1.attn.qkv.bias [k]'} | (set() if learned else {'pos_embed'})
    assert result.dropped.keys() == dropped


def test_options_of_videomae_vit():
    """Positions for every token frame, layer scale, a norm before the mean."""
    state = image_weights()
    for i in range(DEPTH):
        state |= {f'blocks.{i}.ls{j}.gamma': torch.rand(C) for j in (1, 2)}
    state = {name.replace('norm.', 'fc_norm.') if name.startswith('norm') else name: v
             for name, v in state.items()}
    _, result = loaded(state, vit(num_frames=8, use_learnable_pos_emb=True,
                                  init_values=0.1, use_mean_pooling=False))
    positions = result.state_dict['backbone.pos_embed'].view(4, N, C)
    assert_close(positions, state['pos_embed'][:, 1:].expand(4, -1, -1))
    assert torch.equal(result.state_dict['backbone.blocks.1.gamma_2'],
                       state['blocks.1.ls2.gamma'])
    assert torch.equal(result.state_dict['backbone.norm.bias'], state['fc_norm.bias'])
    weight = result.state_dict['backbone.patch_embed.projection.weight']
    assert_close(weight[:, :, 1], state['patch_embed.proj.weight'] / 2)


@pytest.mark.parametrize('host', ['timesformer', 'vit'])
@pytest.mark.parametrize('changes,message', [
    (dict(pos_embed=torch.zeros(1, 26, C)), r'pos_embed.* 1x\d+x24, but backbone.pos_em'
     'bed is 1x'),
    ({'norm.bias': None}, r'missing from the source: backbone.(fc_)?norm.bias$'),
    ({'blocks.2.norm1.bias': torch.zeros(C)},
     '1 source keys have no place in the model: blocks.2.norm1.bias'),
    (dict(dist_token=torch.zeros(1, 1, C)), 'no place in the model: dist_token$'),
    ({'patch_embed.proj.weight': torch.zeros(C, 3, 16, 16)}, 'patch_embed.proj.weight.*'
     r' 24x3x(\dx)?16x16, but backbone.patch_embed.projection.weight is 24x3x'),
    ({'blocks.1.attn.qkv.bias': None}, 'keys of the model are missing from the source'),
])
def test_what_does_not_fit_is_named(host, changes, message):
    state = image_weights() | changes
    state = {name: value for name, value in state.items() if value is not None}
    model = timesformer(DIVIDED, 2) if host == 'timesformer' else vit(
        num_frames=4, use_learnable_pos_emb=True)
    with pytest.raises(ValueError, match=f'^timm_vit: .*{message}'):
        convert_timm_vit(state, model)


def test_another_host_is_refused():
    model = MODELS.build(dict(
        _scope_='mmaction', type='Recognizer3D',
        backbone=dict(type='ReducedMViT', spatial_size=32, temporal_size=4, arch=dict(
            embed_dims=8, num_layers=2, num_heads=1, downscale_indices=[1])),
        cls_head=dict(type='MViTHead', num_classes=3, in_channels=16)))
    with pytest.raises(ValueError, match='timm_vit: the model must be a recogniser arou'
                       'nd a ReducedTimeSformer or a ReducedViT'):
        convert_timm_vit(image_weights(), model)


def run_tool(repo_dir, monkeypatch, src, dst, *options):
    monkeypatch.syspath_prepend(str(repo_dir / 'tools'))
    importlib.import_module('convert_checkpoint').main(
        [str(src), str(dst), '--source', 'timm_vit', *map(str, options)])


def test_the_tool_says_what_was_left_out(repo_dir, tmp_path, monkeypatch, capsys):
    (tmp_path / 'tiny.py').write_text(f'''
model = dict(
    type='Recognizer3D',
    backbone=dict(type='ReducedTimeSformer', num_frames=4, num_transformer_layers=2,
                  reducers={MERGES}, **{SIZES}),
    cls_head=dict(type='TimeSformerHead', num_classes=3, in_channels={C}))
''')
    state = image_weights()
    torch.save(dict(model=state), tmp_path / 'image.pth')
    run_tool(repo_dir, monkeypatch, tmp_path / 'image.pth', tmp_path / 'ours.pth',
             '--config', tmp_path / 'tiny.py', '--verbose')
    out = capsys.readouterr().out
    for line in (
            'dropped head.weight, head.bias: the image model has other classes',
            'not written, keeps its initial value: cls_head.fc_cls.weight, cls_head.fc_'
            'cls.bias: the image model has other classes',
            'blocks.0.norm1.bias [copy] -> backbone.transformer_layers.layers.0.attenti'
            f'ons.0.norm.bias {C}',
            f'backbone.time_embed [zeros] -> backbone.time_embed 1x4x{C}',
            'head.bias is dropped', 'backbone.reducers.0.phi.bias is not written'):
        assert line in out.splitlines()
    file = torch.load(tmp_path / 'ours.pth', weights_only=True)
    assert torch.equal(file['state_dict']['backbone.cls_token'], state['cls_token'])


def test_a_full_size_file_fits_the_config_of_the_source(repo_dir, tmp_path, monkeypatch,
                                                        capsys):
    """ViT-B/16 of 1000 classes; one stored number a tensor keeps its file small."""
    state = {name: torch.full((), 0.5).expand(value.shape) for name, value in
             image_weights(768, 12, 16, 196, 1000).items()}
    assert len(state) == 152  # as many, and as large, as timm's vit_base_patch16_224
    assert sum(value.numel() for value in state.values()) == 86_567_656
    torch.save(state, tmp_path / 'image.pth')
    run_tool(repo_dir, monkeypatch, tmp_path / 'image.pth', tmp_path / 'ours.pth')
    total = next(line for line in capsys.readouterr().out.splitlines()
                 if line.startswith('total'))
    assert total.split()[-2] == '121.258752'  # TimeSformer's 121.57 M less the head
    assert CONVERTERS['timm_vit'].config == 'configs/sttm/timesformer_dense_k400.py'
