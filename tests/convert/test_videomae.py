# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""VideoMAE's names against hand-written ones, and what models compute with them."""
import importlib
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch.testing import assert_close

from mmaction_tokenreduce.convert import (
    convert_mmaction2,
    convert_videomae,
    target_shapes,
)

ROOT = Path(__file__).resolve().parents[2]
C, HEADS, DEPTH, CLASSES = 24, 3, 4, 5
SIZES = dict(img_size=32, patch_size=8, embed_dims=C, num_heads=HEADS, depth=DEPTH,
             num_frames=8)
PRUNED = [dict(type='KeyframePruning', within=1, keep=0.7)]


def encoder(norm, width=C, depth=DEPTH, patch=8):
    """The encoder of a released file, random."""
    sizes = {'patch_embed.proj.weight': (width, 3, 2, patch, patch),
             'patch_embed.proj.bias': (width, )}
    for i in range(depth):
        for name, size in {
                'norm1.weight': (width, ), 'norm1.bias': (width, ),
                'attn.q_bias': (width, ), 'attn.v_bias': (width, ),
                'attn.qkv.weight': (3 * width, width),
                'attn.proj.weight': (width, width), 'attn.proj.bias': (width, ),
                'norm2.weight': (width, ), 'norm2.bias': (width, ),
                'mlp.fc1.weight': (4 * width, width), 'mlp.fc1.bias': (4 * width, ),
                'mlp.fc2.weight': (width, 4 * width), 'mlp.fc2.bias': (width, ),
        }.items():
            sizes[f'blocks.{i}.{name}'] = size
    sizes |= {f'{norm}.weight': (width, ), f'{norm}.bias': (width, )}
    return {name: torch.randn(size) * 0.3 for name, size in sizes.items()}


def pretrained():
    """A pre-trained file: encoder, decoder, what leads from one to the other."""
    state = {f'encoder.{name}': value for name, value in encoder('norm').items()}
    decoder = encoder('norm', 12, 1)
    decoder = {name: value for name, value in decoder.items() if 'patch_' not in name}
    state |= {f'decoder.{name}': value for name, value in decoder.items()}
    return state | {'decoder.head.weight': torch.randn(384, 12),
                    'decoder.head.bias': torch.randn(384),
                    'encoder_to_decoder.weight': torch.randn(12, C),
                    'mask_token': torch.randn(1, 1, 12)}


def finetuned(classes=CLASSES):
    return encoder('fc_norm') | {'head.weight': torch.randn(classes, C),
                                 'head.bias': torch.randn(classes)}


def recognizer(host='ReducedViT', **backbone):
    return MODELS.build(dict(
        _scope_='mmaction', type='Recognizer3D',
        backbone=dict(type=host, **SIZES, **backbone),
        cls_head=dict(type='TimeSformerHead', num_classes=CLASSES, in_channels=C)))


def detector(host='ReducedViT', reducers=()):
    """mmaction2's two-stage detector, small."""
    cfg = Config.fromfile(
        ROOT / 'configs' / 'evad' / 'two_stage_videomae_base_ava.py').model
    cfg.backbone.update(type=f'mmaction.{host}', **SIZES)
    del cfg.backbone['reducers']
    if reducers:
        cfg.backbone.reducers = reducers
    cfg.roi_head.bbox_head.in_channels = C
    with DefaultScope.overwrite_default_scope('mmaction'):
        return MODELS.build(cfg)


def features(state, clips, norm, positions):
    """A released encoder by its equations: tokens (B, N, C) before the last norm."""
    def part(name, x, eps=1e-6):
        return F.layer_norm(x, (C, ), state[f'{name}.weight'], state[f'{name}.bias'],
                            eps)

    def linear(name, x):
        return x @ state[f'{name}.weight'].T + state[f'{name}.bias']

    x = F.conv3d(clips, state['patch_embed.proj.weight'],
                 state['patch_embed.proj.bias'], stride=(2, 8, 8))
    x = x.flatten(2).mT + positions
    for i in range(DEPTH):
        block = f'blocks.{i}.'
        bias = torch.cat((state[f'{block}attn.q_bias'], torch.zeros(C),
                          state[f'{block}attn.v_bias']))
        q, k, v = (part(f'{block}norm1', x) @ state[f'{block}attn.qkv.weight'].T
                   + bias).chunk(3, -1)
        heads = [(a @ b.mT / (C / HEADS)**0.5).softmax(-1) @ c for a, b, c in
                 zip(q.chunk(HEADS, -1), k.chunk(HEADS, -1), v.chunk(HEADS, -1),
                     strict=True)]
        x = x + linear(f'{block}attn.proj', torch.cat(heads, -1))
        x = x + linear(f'{block}mlp.fc2', F.gelu(linear(f'{block}mlp.fc1', part(
            f'{block}norm2', x))))
    return x


def sine_table():
    """SPEC: sin at even, cos at odd channels, angle p / 10000^(2 (j // 2) / d)."""
    table = torch.zeros(64, C, dtype=torch.float64)
    for p in range(64):
        for j in range(C):
            angle = torch.tensor(p / 10000**(2 * (j // 2) / C), dtype=torch.float64)
            table[p, j] = angle.sin() if j % 2 == 0 else angle.cos()
    return table.float()


@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_a_finetuned_file_computes_the_same_class_scores(prefix):
    state, model = finetuned(), recognizer()
    result = convert_videomae({prefix + name: value for name, value in state.items()},
                              model)
    assert not result.dropped and not result.initial
    assert_close(result.state_dict['backbone.pos_embed'], sine_table()[None])
    model = recognizer()
    torch.nn.init.normal_(model.backbone.pos_embed)  # must be overwritten
    model.load_state_dict(result.state_dict)  # strict
    clips = torch.randn(2, 3, 8, 32, 32)
    with torch.no_grad():
        got = model.eval()(clips.unsqueeze(1), mode='tensor', stage='head')
    x = features(state, clips, 'fc_norm', sine_table()).mean(1)
    x = F.layer_norm(x, (C, ), state['fc_norm.weight'], state['fc_norm.bias'], 1e-6)
    want = x @ state['head.weight'].T + state['head.bias']
    assert want.std() > 0.1
    assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_a_pretrained_file_starts_a_detector():
    state, model = pretrained(), detector(reducers=PRUNED)
    result = convert_videomae(state, model)
    reason = 'the decoder reconstructs what was masked in pre-training'
    assert result.dropped == {name: reason for name in state
                              if not name.startswith('encoder.')}
    assert result.initial == {name: 'the checkpoint is that of an encoder'
                              for name in target_shapes(model)
                              if name.startswith('roi_head.')}
    assert len(result.initial) == 2
    inner = {name.removeprefix('encoder.'): value for name, value in state.items()}
    by_hand = {
        'patch_embed.projection.weight': 'patch_embed.proj.weight',
        'blocks.3.norm1.bias': 'blocks.3.norm1.bias',
        'blocks.0.attn.q_bias': 'blocks.0.attn.q_bias',
        'blocks.2.attn.qkv.weight': 'blocks.2.attn.qkv.weight',
        'blocks.2.attn.proj.bias': 'blocks.2.attn.proj.bias',
        'blocks.1.mlp.layers.0.0.weight': 'blocks.1.mlp.fc1.weight',
        'blocks.1.mlp.layers.1.bias': 'blocks.1.mlp.fc2.bias',
        'norm.weight': 'norm.weight'}
    for new, old in by_hand.items():
        assert torch.equal(result.state_dict[f'backbone.{new}'], inner[old]), new
    assert model.load_state_dict(result.state_dict, strict=False).unexpected_keys == []


def test_the_last_norm_becomes_the_one_that_the_model_has():
    state = pretrained()
    result = convert_videomae(state, recognizer(reducers=PRUNED))
    assert torch.equal(result.state_dict['backbone.fc_norm.bias'],
                       state['encoder.norm.bias'])
    assert list(result.initial) == ['cls_head.fc_cls.weight', 'cls_head.fc_cls.bias']
    state = finetuned()
    result = convert_videomae(state, detector())
    assert torch.equal(result.state_dict['backbone.norm.bias'], state['fc_norm.bias'])
    assert list(result.dropped) == ['head.weight', 'head.bias']


def test_a_classifier_of_other_classes_is_left_out():
    result = convert_videomae(finetuned(7), recognizer())
    reason = 'checkpoint and model have no classifier of equal size'
    assert result.dropped == {'head.weight': reason, 'head.bias': reason}
    assert result.initial == {'cls_head.fc_cls.weight': reason,
                              'cls_head.fc_cls.bias': reason}


def test_learned_positions_and_layer_scale():
    state = finetuned() | {'pos_embed': torch.randn(1, 64, C)}
    state |= {f'blocks.{i}.gamma_{j}': torch.rand(C) for i in range(DEPTH)
              for j in (1, 2)}
    model = recognizer(use_learnable_pos_emb=True, init_values=0.1)
    result = convert_videomae(state, model)
    model.load_state_dict(result.state_dict)
    assert torch.equal(model.backbone.pos_embed, state['pos_embed'])
    assert torch.equal(model.backbone.blocks[2].gamma_2, state['blocks.2.gamma_2'])
    del state['pos_embed']
    with pytest.raises(ValueError, match='from the source: backbone.pos_embed$'):
        convert_videomae(state, model)


def test_names_and_sizes_are_a_target_too():
    shapes = target_shapes(recognizer())
    result = convert_videomae(finetuned(), shapes)
    assert result.initial == {
        'backbone.pos_embed': 'positions of a VideoMAE are fixed'}


@pytest.mark.parametrize('changes,message', [
    ({'fc_norm.bias': None}, 'missing from the source: backbone.fc_norm.bias$'),
    ({'blocks.4.norm1.bias': torch.zeros(C)}, 'no place in the model: blocks.4.norm1'),
    (dict(cls_token=torch.zeros(1, 1, C)), 'no place in the model: cls_token$'),
    ({'norm.bias': torch.zeros(C)}, 'keys share a place: fc_norm.bias and norm.b'),
    ({'patch_embed.proj.weight': torch.zeros(C, 3, 2, 16, 16)}, 'another shape: patch_e'
     r'mbed.proj.weight 24x3x2x16x16, but backbone.patch_embed.projection.weight is'),
    ({'blocks.1.attn.q_bias': None}, 'keys of the model are missing from the source: '
     'backbone.blocks.1.attn.q_bias$'),
])
def test_what_does_not_fit_is_named(changes, message):
    state = {name: value for name, value in (finetuned() | changes).items()
             if value is not None}
    with pytest.raises(ValueError, match=f'^videomae: .*{message}'):
        convert_videomae(state, recognizer())


def test_another_host_is_refused():
    model = MODELS.build(dict(
        _scope_='mmaction', type='Recognizer3D',
        backbone=dict(type='ReducedTimeSformer', num_frames=4, img_size=32,
                      patch_size=8, embed_dims=24, num_heads=3),
        cls_head=dict(type='TimeSformerHead', num_classes=3, in_channels=C)))
    with pytest.raises(ValueError, match='^videomae: the model must be a recogniser or '
                       'detector around a ReducedViT'):
        convert_videomae(finetuned(), model)


def test_mmaction2s_recogniser_starts_a_detector():
    source = recognizer('VisionTransformer').state_dict()
    source = {name: torch.randn_like(value) for name, value in source.items()}
    plain = convert_mmaction2(source, recognizer(reducers=PRUNED))
    assert plain.state_dict.keys() == source.keys() and not plain.dropped
    model = detector(reducers=PRUNED)
    result = convert_mmaction2({f'module.{name}': value
                                for name, value in source.items()}, model)
    assert torch.equal(result.state_dict['backbone.norm.weight'],
                       source['backbone.fc_norm.weight'])
    assert torch.equal(result.state_dict['backbone.blocks.2.mlp.layers.1.bias'],
                       source['backbone.blocks.2.mlp.layers.1.bias'])
    assert list(result.state_dict) == [name for name in target_shapes(model)
                                       if name not in result.initial]
    assert all(name.startswith('roi_head.') for name in result.initial)
    assert list(result.dropped) == ['module.cls_head.fc_cls.weight',
                                    'module.cls_head.fc_cls.bias']


def test_mmaction2s_detector_fills_ours():
    source = detector('mmaction.VisionTransformer').state_dict()
    result = convert_mmaction2(source, detector(reducers=PRUNED))
    assert result.state_dict.keys() == source.keys()
    assert not result.dropped and not result.initial


def test_a_full_size_file_fits_the_config_of_the_source(tmp_path, monkeypatch, capsys):
    """ViT-B of 400 classes; one stored number a tensor keeps its file small."""
    state = encoder('fc_norm', 768, 12, 16) | {'head.weight': torch.zeros(400, 768),
                                               'head.bias': torch.zeros(400)}
    assert sum(value.numel() for value in state.values()) == 86_534_800
    state = {name: torch.full((), 0.5).expand(value.shape)
             for name, value in state.items()}
    torch.save(dict(module=state), tmp_path / 'videomae.pth')
    monkeypatch.syspath_prepend(str(ROOT / 'tools'))
    importlib.import_module('convert_checkpoint').main(
        [str(tmp_path / 'videomae.pth'), str(tmp_path / 'ours.pth'),
         '--source', 'videomae'])
    out = capsys.readouterr().out.splitlines()
    total = next(line for line in out if line.startswith('total'))
    assert total.split()[-2] == '87.431424'  # the encoder and its table of positions
