# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Rates by part, and decay by the number of dimensions, whatever part it is."""
import pytest
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import nn


def model():
    result = nn.ModuleDict(dict(
        encoder=nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4)),
        head=nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5))))
    result.head.token = nn.Parameter(result.head[0].weight.data[:1])
    return result


def build(**paramwise):
    with DefaultScope.overwrite_default_scope('mmaction'):
        return build_optim_wrapper(model_ := model(), dict(
            type='OptimWrapper', constructor='FlatDecayConstructor',
            optimizer=dict(type='AdamW', lr=0.1, weight_decay=0.01),
            paramwise_cfg=paramwise)).optimizer, model_


def test_custom_keys_keep_their_rates_and_1d_parameters_never_decay():
    optimizer, owner = build(flat_decay_mult=0.0, custom_keys={
        'head': dict(lr_mult=8.0), 'head.token': dict(lr_mult=8.0, decay_mult=0.0)})
    names = {id(p): name for name, p in owner.named_parameters()}
    got = {names[id(p)]: (group['lr'], group['weight_decay'])
           for group in optimizer.param_groups for p in group['params']}
    assert got == {
        'encoder.0.weight': (0.1, 0.01), 'encoder.0.bias': (0.1, 0.0),
        'encoder.1.weight': (0.1, 0.0), 'encoder.1.bias': (0.1, 0.0),
        'head.token': (0.8, 0.0),
        'head.0.weight': (0.8, 0.01), 'head.0.bias': (0.8, 0.0),
        'head.1.weight': (0.8, 0.0), 'head.1.bias': (0.8, 0.0)}


def test_it_is_of_no_use_without_the_option():
    with pytest.raises(ValueError, match='needs flat_decay_mult'):
        build(custom_keys={'head': dict(lr_mult=8.0)})
