# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Released Video Swin names against hand-written ones, and against the real models."""
import json

import pytest
import torch
from mmaction.registry import MODELS

from mmaction_tokenreduce.convert import (
    convert_mmaction2,
    convert_stts_swin,
    convert_video_swin,
)

BLOCK = 'layers.2.blocks.7'
# released -> ours, by hand, both without "backbone." in front
DENSE_NAMES = {
    'patch_embed.proj.weight': 'patch_embed.proj.weight',
    'patch_embed.norm.bias': 'patch_embed.norm.bias',
    f'{BLOCK}.norm1.weight': f'{BLOCK}.norm1.weight',
    f'{BLOCK}.attn.relative_position_bias_table':
    f'{BLOCK}.attn.relative_position_bias_table',
    f'{BLOCK}.attn.relative_position_index': f'{BLOCK}.attn.relative_position_index',
    f'{BLOCK}.attn.qkv.bias': f'{BLOCK}.attn.qkv.bias',
    f'{BLOCK}.mlp.fc2.weight': f'{BLOCK}.mlp.fc2.weight',
    'layers.0.downsample.reduction.weight': 'layers.0.downsample.reduction.weight',
    'norm.weight': 'norm3.weight',
    'norm.bias': 'norm3.bias',
}
TIME = 'time_score_predictor.0.score_network'
SELECTOR_NAMES = {
    f'{TIME}.in_conv.0.weight': 'reducers.0.score_net.norm.weight',
    f'{TIME}.in_conv.1.bias': 'reducers.0.score_net.embed.bias',
    f'{TIME}.out_conv.0.weight': 'reducers.0.score_net.head.0.weight',
    f'{TIME}.out_conv.2.bias': 'reducers.0.score_net.head.2.bias',
    f'{TIME}.out_conv.4.weight': 'reducers.0.score_net.head.4.weight',
}
SELECTORS = [dict(type='TemporalSelection', before=0, keep=0.625)]


def recognizer(arch, num_classes, **backbone):
    """A Recognizer3D around a Video Swin that computes as the release."""
    width = 1024 if arch == 'base' else 8 * arch['embed_dims']
    return MODELS.build(dict(
        _scope_='mmaction', type='Recognizer3D',
        backbone=dict(type='ReducedSwin3D', arch=arch, pretrained2d=False,
                      drop_path_rate=0.0, window_mode='padded', **backbone),
        cls_head=dict(type='I3DHead', num_classes=num_classes, in_channels=width)))


def with_head(backbone, num_classes, width):
    """A released file's names: the backbone's under a prefix, and a head's."""
    return {f'backbone.{name}': value for name, value in backbone.items()} | {
        'cls_head.fc_cls.weight': torch.randn(num_classes, width),
        'cls_head.fc_cls.bias': torch.randn(num_classes)}


def tiny(reducers=()):
    arch = dict(embed_dims=16, depths=[1, 1], num_heads=[1, 2])
    return MODELS.build(dict(
        _scope_='mmaction', type='Recognizer3D',
        backbone=dict(type='ReducedSwin3D', arch=arch, pretrained2d=False,
                      window_size=(2, 2, 2), out_indices=(1, ), reducers=reducers),
        cls_head=dict(type='I3DHead', num_classes=3, in_channels=32)))


def released_tiny(model):
    """Its state dict under the names that Video-Swin-Transformer would give it."""
    return {name.replace('backbone.norm1.', 'backbone.norm.'): value
            for name, value in model.state_dict().items()}


@pytest.fixture(scope='module')
def released(shared_dir):
    """Full-size released files: one stored number a tensor keeps them small."""
    text = (shared_dir / 'official_keys' / 'stts_swin_b_t06.json').read_text()
    backbone = {name: torch.zeros(()).expand(shape)
                for name, shape in json.loads(text)['keys'].items()}
    return dict(
        stts_swin=with_head(backbone, 400, 1024),
        video_swin=with_head({name: value for name, value in backbone.items()
                              if not name.startswith('time_')}, 400, 1024))


@pytest.mark.parametrize('source, millions', [('stts_swin', 87.747),
                                              ('video_swin', 87.639)])
def test_full_size_models_are_filled_one_to_one(released, source, millions):
    stts = source == 'stts_swin'
    model = recognizer('base', 400, window_size=(8, 7, 7),
                       reducers=SELECTORS if stts else ())
    convert = convert_stts_swin if stts else convert_video_swin
    result = convert(released[source], model)
    model.load_state_dict(result.state_dict, strict=True)
    assert len(result.sources) == len(released[source]) and not result.dropped
    names = DENSE_NAMES | (SELECTOR_NAMES if stts else {})
    expected = {f'backbone.{new}': f'backbone.{old}' for old, new in names.items()}
    expected |= {f'cls_head.fc_cls.{part}': f'cls_head.fc_cls.{part}'
                 for part in ('weight', 'bias')}
    assert expected.items() <= result.sources.items()
    total = sum(value.numel() for value in model.backbone.parameters())
    assert round(total / 1e6, 3) == millions


@pytest.mark.parametrize('name', ['dense', 'temporal', 'temporal_padded'])
def test_converted_models_compute_as_the_release(shared_dir, name):
    cases = torch.load(shared_dir / 'parity' / 'stts_swin.pt', weights_only=True)
    assert len(cases) == 3
    case, cfg = cases[name], cases[name]['cfg']
    before, keep = cfg['temporal_before_stage'] or (), cfg['temporal_ratio'] or ()
    reducers = [dict(type='TemporalSelection', before=i, keep=share)
                for i, share in zip(before, keep, strict=True)]
    arch = {key: cfg[key] for key in ('embed_dims', 'depths', 'num_heads')}
    model = recognizer(arch, 5, window_size=cfg['window_size'], reducers=reducers)
    file = with_head(case['state_dict'], 5, 8 * cfg['embed_dims'])
    convert = convert_stts_swin if reducers else convert_video_swin
    model.load_state_dict(convert(file, model).state_dict, strict=True)
    model.eval()
    with torch.inference_mode():
        features = model.backbone(case['input'])
        scores = model(case['input'].unsqueeze(1), stage='head')
    torch.testing.assert_close(features, case['features'], rtol=1e-5, atol=1e-5)
    pooled = case['features'].mean(dim=(2, 3, 4))
    expected = (pooled @ file['cls_head.fc_cls.weight'].T
                + file['cls_head.fc_cls.bias'])
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-5)


def test_the_final_norm_is_that_of_the_last_stage_there_is():
    model = tiny()
    file = released_tiny(model)
    result = convert_video_swin(file, model)
    assert result.sources['backbone.norm1.weight'] == 'backbone.norm.weight'
    torch.testing.assert_close(result.state_dict, dict(model.state_dict()))


def test_selectors_of_two_kinds_and_places():
    model = tiny([dict(type='SpatialSelection', before=1, keep=0.5),
                  dict(type='TemporalSelection', before=0, keep=0.5)])
    file = {}
    for name, value in released_tiny(model).items():
        for number, kind in enumerate(('space', 'time')):
            start = f'backbone.reducers.{number}.score_net.'
            name = name.replace(
                start, f'backbone.{kind}_score_predictor.0.score_network.')
        for ours, theirs in (('norm.', 'in_conv.0.'), ('embed.', 'in_conv.1.'),
                             ('head.', 'out_conv.')):
            name = name.replace(f'score_network.{ours}', f'score_network.{theirs}')
        file[name] = value
    result = convert_stts_swin(file, model)
    torch.testing.assert_close(result.state_dict, dict(model.state_dict()))


def test_what_does_not_fit_is_named():
    model = tiny()
    file = released_tiny(model)
    selected = tiny([dict(SELECTORS[0], keep=0.5)])
    with pytest.raises(ValueError, match='stts_swin: the checkpoint has 0 score networ'
                       'ks under backbone.time_score_predictor, the model 1 Temporal'):
        convert_stts_swin(file, selected)
    with pytest.raises(ValueError, match=r'video_swin: .* 10 keys of the model are miss'
                       r'ing from the source: backbone.reducers.0.score_net.norm.weig'):
        convert_video_swin(file, selected)
    predictor = 'backbone.time_score_predictor.0.score_network.in_conv.0.bias'
    with pytest.raises(ValueError, match=r'video_swin: .*: 1 source keys have no place '
                       rf'in the model: {predictor}$'):
        convert_video_swin({**file, predictor: torch.zeros(8)}, model)
    bare = {name.removeprefix('backbone.'): value for name, value in file.items()}
    with pytest.raises(ValueError, match='source keys have no place in the model: patch'
                       '_embed.proj.weight, '):
        convert_video_swin(bare, model)
    with pytest.raises(ValueError, match='stts_swin: the model must be a recogniser '
                       'around a ReducedSwin3D with one output scale, but has back'):
        convert_stts_swin({}, {'backbone.norm2.weight': (8, ),
                               'backbone.norm3.weight': (8, )})


@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_mmaction2_names_are_ours(prefix):
    """mmaction2's own Swin gives weights to ours; a head of other classes is named."""
    ours = tiny()
    theirs = MODELS.build(dict(
        _scope_='mmaction', type='Recognizer3D',
        backbone=dict(
            type='SwinTransformer3D', pretrained2d=False, window_size=(2, 2, 2),
            arch=dict(embed_dims=16, depths=[1, 1], num_heads=[1, 2]),
            out_indices=(1, )),
        cls_head=dict(type='I3DHead', num_classes=3, in_channels=32)))
    file = {prefix + name: value for name, value in theirs.state_dict().items()}
    result = convert_mmaction2(file, ours)
    ours.load_state_dict(result.state_dict, strict=True)
    theirs.eval(), ours.eval()
    clip = torch.randn(2, 1, 3, 8, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(ours(clip, stage='head'), theirs(clip, stage='head'))
    file[f'{prefix}cls_head.fc_cls.bias'] = torch.zeros(4)
    with pytest.raises(ValueError, match=rf'^mmaction2: .*: 1 keys have another shape: '
                       rf'{prefix}cls_head.fc_cls.bias 4, but cls_head.fc_cls.bias'):
        convert_mmaction2(file, ours)


def test_mmaction2_mvit_names_are_ours():
    def model(host, **options):
        return MODELS.build(dict(
            _scope_='mmaction', type='Recognizer3D',
            backbone=dict(type=host, spatial_size=32, temporal_size=4, arch=dict(
                embed_dims=8, num_layers=2, num_heads=1, downscale_indices=[1]),
                **options),
            cls_head=dict(type='MViTHead', num_classes=3, in_channels=16)))

    theirs, ours = model('MViT'), model('ReducedMViT')
    result = convert_mmaction2(theirs.state_dict(), ours)
    assert list(result.sources.items()) == [(key, key) for key in ours.state_dict()]
    selected = model('ReducedMViT', reducers=[dict(SELECTORS[0], keep=0.5)])
    with pytest.raises(ValueError, match=r'^mmaction2: .*: 10 keys of the model are mis'
                       r'sing from the source: backbone.reducers.0'):
        convert_mmaction2(theirs.state_dict(), selected)
