# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Released MViT names against hand-written ones, and against the real models."""
import json

import pytest
import torch

from mmaction_tokenreduce.convert import convert_slowfast_mvit, convert_stts_mvit

SELECTORS = [dict(type='TemporalSelection', before=0, keep=0.625),
             dict(type='SpatialSelection', before=4, keep=0.863)]
FILES = {'slowfast': 'slowfast_mvit_b16x4.json', 'stts': 'stts_mvit_b16_t06_s09.json'}
# ours -> released, by hand
DENSE_NAMES = {
    'backbone.cls_token': 'cls_token',
    'backbone.pos_embed_spatial': 'pos_embed_spatial',
    'backbone.pos_embed_temporal': 'pos_embed_temporal',
    'backbone.pos_embed_class': 'pos_embed_class',
    'backbone.patch_embed.projection.weight': 'patch_embed.proj.weight',
    'backbone.patch_embed.projection.bias': 'patch_embed.proj.bias',
    'backbone.blocks.0.proj.bias': 'blocks.0.proj.bias',
    'backbone.blocks.1.attn.pool_q.weight': 'blocks.1.attn.pool_q.weight',
    'backbone.blocks.1.attn.norm_q.bias': 'blocks.1.attn.norm_q.bias',
    'backbone.blocks.7.attn.qkv.weight': 'blocks.7.attn.qkv.weight',
    'backbone.blocks.15.mlp.fc2.bias': 'blocks.15.mlp.fc2.bias',
    'backbone.norm3.weight': 'norm.weight',
    'cls_head.fc_cls.weight': 'head.projection.weight',
    'cls_head.fc_cls.bias': 'head.projection.bias',
}
TIME, SPACE = ('time_score_predictor.0.score_network',
               'space_score_predictor.0.score_network')
SELECTOR_NAMES = {
    'backbone.reducers.0.score_net.norm.weight': f'{TIME}.in_conv.0.weight',
    'backbone.reducers.0.score_net.embed.bias': f'{TIME}.in_conv.1.bias',
    'backbone.reducers.0.score_net.head.0.weight': f'{TIME}.out_conv.0.weight',
    'backbone.reducers.0.score_net.head.4.bias': f'{TIME}.out_conv.4.bias',
    'backbone.reducers.1.score_net.norm.bias': f'{SPACE}.in_conv.0.bias',
    'backbone.reducers.1.score_net.embed.weight': f'{SPACE}.in_conv.1.weight',
    'backbone.reducers.1.score_net.head.2.weight': f'{SPACE}.out_conv.2.weight',
}


def recognizer(arch, num_classes, reducers=(), **backbone):
    """A Recognizer3D around an MViTv1, as the configs define it."""
    registry = pytest.importorskip('mmaction.registry')
    import mmaction_tokenreduce  # noqa: F401  registers ReducedMViT
    width = 768 if arch == 'small' else 4 * arch['embed_dims']
    return registry.MODELS.build(dict(
        _scope_='mmaction',
        type='Recognizer3D',
        backbone=dict(
            type='ReducedMViT', arch=arch, separable_pos_embed=True,
            pool_query='downscale', rel_pos_embed=False, residual_pooling=False,
            dim_mul_in_attention=False, rel_pos_zero_init=True,
            pool_norm_cfg=dict(type='LN', eps=1e-5), reducers=list(reducers),
            **backbone),
        cls_head=dict(type='MViTHead', num_classes=num_classes, in_channels=width)))


@pytest.fixture
def released(shared_dir):
    """Reads the released names of a full-size model as tensors of their shapes."""

    def read(name):
        text = (shared_dir / 'official_keys' / FILES[name]).read_text()
        return {key: torch.zeros(()).expand(shape)
                for key, shape in json.loads(text)['keys'].items()}

    return read


def renamed(state_dict, names):
    """Shapes of a target, made by the names that were written by hand."""
    ours = {old: new for new, old in names.items()}
    return {ours[key]: value for key, value in state_dict.items() if key in ours}


def test_dense_names_by_hand(released):
    state_dict = released('slowfast')
    target = renamed(state_dict, DENSE_NAMES)
    sample = {key: state_dict[key] for key in DENSE_NAMES.values()}
    result = convert_slowfast_mvit(sample, target)
    assert result.sources == {new: DENSE_NAMES[new] for new in target}


def test_selector_names_by_hand(released):
    state_dict = released('stts')
    names = DENSE_NAMES | SELECTOR_NAMES
    sample = {key: state_dict[key] for key in names.values()}
    result = convert_stts_mvit(sample, renamed(state_dict, names), SELECTORS)
    assert result.sources == names
    # the same with the selectors listed the other way round
    swapped = {new.replace('reducers.0', 'reducers.x').replace(
        'reducers.1', 'reducers.0').replace('reducers.x', 'reducers.1'): old
        for new, old in names.items()}
    result = convert_stts_mvit(sample, renamed(state_dict, swapped), SELECTORS[::-1])
    assert result.sources == swapped


@pytest.mark.parametrize(('name', 'millions'), [('slowfast', 36.610672),
                                                ('stts', 36.912498)])
def test_full_size_models_are_filled(released, name, millions):
    state_dict = released(name)
    model = recognizer('small', 400, SELECTORS if name == 'stts' else ())
    convert = convert_stts_mvit if name == 'stts' else convert_slowfast_mvit
    result = convert(state_dict, model)
    model.load_state_dict(result.state_dict, strict=True)
    assert len(result.sources) == len(state_dict) and not result.dropped
    total = sum(tensor.numel() for tensor in result.state_dict.values())
    assert total == round(millions * 1e6)
    names = DENSE_NAMES | (SELECTOR_NAMES if name == 'stts' else {})
    assert names.items() <= result.sources.items()


def test_several_selectors_of_a_kind_are_told_apart_by_where_they_act():
    # 8 wide before both blocks: shapes alone could not tell them apart
    state_dict = {'norm.weight': torch.zeros(8)}
    target = {'backbone.norm3.weight': (8, )}
    for j in range(2):
        state_dict[f'space_score_predictor.{j}.score_network.out_conv.4.bias'] = (
            torch.full((1, ), float(j)))
        target[f'backbone.reducers.{j}.score_net.head.4.bias'] = (1, )
    later_first = [dict(type='mmaction.SpatialSelection', before=8),
                   dict(type='SpatialSelection', before=4)]
    result = convert_stts_mvit(state_dict, target, later_first).state_dict
    assert result['backbone.reducers.0.score_net.head.4.bias'] == 1
    assert result['backbone.reducers.1.score_net.head.4.bias'] == 0
    with pytest.raises(ValueError, match=r'which of the reducers \[0, 1\] select'):
        convert_stts_mvit(state_dict, target)
    multi = [dict(SELECTORS[1], before=before) for before in (8, 4)]
    with pytest.raises(ValueError, match='several selectors of a kind: give'):
        convert_stts_mvit(state_dict, recognizer('small', 400, multi))


def test_selectors_without_a_score_network_take_none(released):
    state_dict = {key: value for key, value in released('stts').items()
                  if not key.startswith('time')}
    unscored = [dict(SELECTORS[0], strategy='uniform'), SELECTORS[1]]
    result = convert_stts_mvit(state_dict, recognizer('small', 400, unscored))
    assert (result.sources['backbone.reducers.1.score_net.norm.bias']
            == f'{SPACE}.in_conv.0.bias')
    with pytest.raises(ValueError, match='has 1 score networks under time_score_pred'
                       'ictor, the model 0 TemporalSelection'):
        convert_stts_mvit(released('stts'), recognizer('small', 400, unscored))


def test_keys_that_do_not_fit_are_named(released):
    state_dict = released('slowfast')
    model = recognizer('small', 174)
    with pytest.raises(ValueError, match='2 keys have another shape: head.projection.'
                       'weight 400x768, but cls_head.fc_cls.weight is 174x768, '):
        convert_slowfast_mvit(state_dict, model)
    state_dict['blocks.0.attn.rel_pos_h'] = torch.zeros(3)
    del state_dict['norm.bias']
    with pytest.raises(ValueError, match=r'1 source keys have no place in the model: '
                       r'blocks.0.attn.rel_pos_h .*; 1 keys of the model are missing '
                       r'from the source: backbone.norm3.bias; 2 keys have another'):
        convert_slowfast_mvit(state_dict, model)
    with pytest.raises(ValueError, match='slowfast_mvit: .*time_score_predictor'):
        convert_slowfast_mvit(released('stts'), recognizer('small', 400))


def test_another_model_is_refused():
    with pytest.raises(ValueError, match='but has no backbone.norm<scale>'):
        convert_slowfast_mvit({}, {'backbone.norm.weight': (8, )})
    with pytest.raises(ValueError, match='but has backbone.norm2, backbone.norm3'):
        convert_slowfast_mvit({}, {'backbone.norm2.weight': (8, ),
                                   'backbone.norm3.weight': (8, )})
