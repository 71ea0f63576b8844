# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Small hosts for STTM's tests, their reducers, and looking at what passes by."""
import re

import pytest
import torch
from mmaction.models.backbones.timesformer import TimeSformer
from mmcv.cnn.bricks import DropPath
from mmengine.registry import DefaultScope
from torch import nn

from mmaction_tokenreduce.models import ReducedTimeSformer

TINY = dict(num_frames=4, img_size=32, patch_size=8, embed_dims=24, num_heads=3,
            num_transformer_layers=4)
T, N, C, HEADS = 4, 16, 24, 3
CLIP = (3, 4, 32, 32)
DIVIDED, JOINT = 'divided_space_time', 'joint_space_time'
TYPES = pytest.mark.parametrize('kind', [DIVIDED, JOINT])


def merging(before, scope='frame', **kwargs):
    return dict(type='TokenMerging', before=before, scope=scope, **kwargs)


def temporal(before, keep, **kwargs):
    return dict(type='TemporalSelection', before=before, keep=keep, **kwargs)


def spatial(before, keep, **kwargs):
    return dict(type='SpatialSelection', before=before, keep=keep, **kwargs)


MERGES = [merging(2), merging(3, 'clip')]


def dense_host(**kwargs):
    with DefaultScope.overwrite_default_scope('mmaction'):
        return TimeSformer(**{**TINY, **kwargs})


def host(kind=DIVIDED, reducers=(), **kwargs):
    return ReducedTimeSformer(**{**TINY, **kwargs}, attention_type=kind,
                              reducers=reducers)


def randomize(model):
    """Parameters of a size at which every part matters to the output."""
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def output(model, x):
    with torch.no_grad():
        return model(x)


# Where what drops something keeps its rate.
RATES = {nn.Dropout: 'p', DropPath: 'drop_prob', nn.MultiheadAttention: 'dropout'}


def set_rates(model, rate, where=''):
    """Drop at ``rate`` in modules of whose name ``where`` is a part, elsewhere not."""
    found = 0
    for name, module in model.named_modules():
        for kind, attribute in RATES.items():
            if isinstance(module, kind):
                on = re.search(where, name) is not None
                setattr(module, attribute, rate if on else 0.0)
                found += on
    assert found, where


def noise(model, layer, clip, times=256):
    """How far training is from evaluation after a layer: of the first token, the others

    (root mean square over draws, tokens and channels).
    """
    outs = []
    hook = layer.register_forward_hook(lambda module, args, out: outs.append(
        out[0] if isinstance(out, tuple) else out))
    output(model.eval(), clip)
    output(model.train(), clip.expand(times, -1, -1, -1, -1))
    hook.remove()
    squares = (outs[1] - outs[0]).square().mean((0, 2))
    return torch.stack((squares[0], squares[1:].mean())).sqrt()


def inputs_of(module):
    """What a module is called with, call by call."""
    calls = []
    module.register_forward_pre_hook(lambda module, args: calls.append(args))
    return calls
