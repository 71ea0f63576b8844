# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""The released EVAD: every name, and what the converted model computes."""
import json

import pytest
import torch
from mmaction.registry import MODELS
from mmengine.config import Config
from tiny_evad import config
from torch.testing import assert_close

from mmaction_tokenreduce.convert import CONVERTERS
from mmaction_tokenreduce.convert.evad import convert_evad

# released -> ours, by hand
NAMES = {
    'patch_embed.proj.weight': 'backbone.patch_embed.projection.weight',
    'blocks.7.attn.q_bias': 'backbone.blocks.7.attn.q_bias',
    'blocks.11.mlp.fc1.weight': 'backbone.blocks.11.mlp.layers.0.0.weight',
    'blocks.0.mlp.fc2.bias': 'backbone.blocks.0.mlp.layers.1.bias',
    'norm.weight': 'backbone.fc_norm.weight',
    'fpn_lateral2.weight': 'neck.1.lateral_convs.0.conv.weight',
    'fpn_output5.bias': 'neck.1.fpn_convs.3.conv.bias',
    'init_proposal_boxes.weight': 'localizer.proposals.init_proposal_bboxes.weight',
    'det_head.s0_headseries.4.self_attn.in_proj_weight':
    'localizer.stages.4.attention.attn.in_proj_weight',
    'det_head.s0_headseries.0.inst_interact.norm3.bias':
    'localizer.stages.0.instance_interactive_conv.fc_norm.bias',
    'det_head.s0_headseries.5.norm2.weight':
    'localizer.stages.5.instance_interactive_conv_norm.weight',
    'det_head.s0_headseries.1.linear2.weight': 'localizer.stages.1.ffn.layers.1.weight',
    'det_head.s0_headseries.2.reg_module.7.weight':
    'localizer.stages.2.reg_fcs.7.weight',
    'det_head.s0_headseries.3.bboxes_delta.bias': 'localizer.stages.3.fc_reg.bias',
    'det_head.encoder_to_decoder.weight': 'action_head.project.weight',
    'det_head.mask_token': 'action_head.mask_token',
    'det_head.decoder.blocks.2.attn.qkv.weight':
    'action_head.decoder.blocks.2.attn.qkv.weight',
    'det_head.decoder.blocks.3.mlp.fc2.bias': 'action_head.decoder.blocks.3.mlp.2.bias',
    'det_head.decoder.blocks.1.act_module.1.bias':
    'action_head.decoder.classifiers.1.1.bias',
    'det_head.decoder.blocks.5.action_logits.weight':
    'action_head.decoder.classifiers.5.3.weight',
}


@pytest.fixture(scope='module')
def full_size(repo_dir):
    """The model of the config that released files are converted for."""
    cfg = Config.fromfile(repo_dir / CONVERTERS['evad'].config)
    return MODELS.build(dict(cfg.model, _scope_='mmaction')).to('meta')


@pytest.fixture
def released(shared_dir):
    """Names and sizes of the released ViT-B, as tensors without values."""
    keys = json.loads((shared_dir / 'official_keys' / 'evad_vit_b.json').read_text())
    return {name: torch.empty(shape, device='meta')
            for name, shape in keys['keys'].items()}


def test_every_released_key_has_its_place(released, full_size):
    result = convert_evad(released, full_size)
    assert {new: old for new, old in result.sources.items() if old in NAMES} == {
        new: old for old, new in NAMES.items()}
    assert set(result.state_dict) == set(full_size.state_dict())
    assert list(result.dropped) == ['criterion.empty_weight']
    assert len(result.sources) == len(released)  # one dropped, fixed positions added


@pytest.mark.parametrize('change,message', [
    (lambda keys: keys.pop('det_head.mask_token'),
     '1 keys of the model are missing from the source: action_head.mask_token'),
    (lambda keys: keys.update({'det_head.s1_headseries.0.norm1.bias': torch.zeros(1)}),
     'no place in the model: det_head.s1_headseries.0.norm1.bias'),
    (lambda keys: keys.update({'norm.weight': torch.zeros(1024)}),
     'norm.weight 1024, but backbone.fc_norm.weight is 768')])
def test_what_does_not_fit_is_named(released, full_size, change, message):
    change(released)
    with pytest.raises(ValueError, match=message):
        convert_evad(released, full_size)


def test_shapes_alone_are_enough(released, full_size):
    shapes = {name: tuple(value.shape) for name, value in
              full_size.state_dict().items()}
    result = convert_evad(released, shapes)
    assert list(result.initial) == ['backbone.pos_embed']


def test_a_model_that_computes_something_else_is_refused():
    model = MODELS.build(config())
    with pytest.raises(ValueError, match="remap='place'.*trained with "
                                         "remap='released'"):
        convert_evad({}, model)


def model_of(cfg, **head):
    """Ours, of the sizes in a parity file."""
    side = cfg['pretrain_img_size']
    return MODELS.build(config(
        keep=cfg['keep_rates'], classes=cfg['num_classes'],
        backbone=dict(img_size=side, embed_dims=cfg['embed_dims'], depth=cfg['depth'],
                      num_heads=cfg['num_heads'], num_frames=cfg['num_frames'],
                      out_indices=cfg['out_indices']),
        localizer=dict(num_proposals=cfg['num_proposals'], num_stages=cfg['num_stages'],
                       channels=cfg['fpn_channels'], head=dict(
                           num_heads=cfg['stage_heads'],
                           feedforward_channels=cfg['stage_ffn']),
                       dynamic_channels=cfg['dynamic_dim']),
        head=dict(in_channels=cfg['embed_dims'], channels=cfg['decoder_dims'],
                  depth=cfg['decoder_depth'], num_heads=cfg['decoder_heads'],
                  hidden_channels=cfg['action_fc_dims'],
                  grid=(cfg['num_frames'] // 2, side // 16, side // 16),
                  roi_extension=cfg['roi_extension'], **head))).eval()


def converted(case, remap='released'):
    model = model_of(case['cfg'], remap='released')
    model.load_state_dict(convert_evad(case['state_dict'], model).state_dict)
    model.action_head.remap = remap
    return model


@pytest.mark.parametrize('name', ['r07', 'dense'])
def test_computes_what_the_release_does(shared_dir, name):
    case = torch.load(shared_dir / 'parity' / 'evad_detector.pt')[name]
    with torch.no_grad():
        outputs = converted(case)(case['input'])
    for key, got in zip(('person_logits', 'boxes', 'action_logits'), outputs,
                        strict=True):
        scale = case[key].abs().max().item()
        assert_close(got, case[key], rtol=0, atol=1e-4 * scale,
                     msg=lambda m, k=key: k + m)


def test_remapping_matters_only_to_actions_and_only_with_pruning(shared_dir):
    cases = torch.load(shared_dir / 'parity' / 'evad_detector.pt')
    for name, differs in (('r07', True), ('dense', False)):
        case = cases[name]
        with torch.no_grad():
            persons, boxes, actions = converted(case, 'place')(case['input'])
        assert_close(persons, case['person_logits'], rtol=1e-3, atol=1e-3)
        assert_close(boxes, case['boxes'], rtol=1e-3, atol=1e-2)
        change = (actions - case['action_logits']).abs().max()
        assert (change > 0.01 * case['action_logits'].abs().max()) == differs
