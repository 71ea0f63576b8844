# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""The fast linear layer equals nn.Linear, values and gradients."""
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from mmaction_tokenreduce.layers import FastLinear, replace_linears
from mmaction_tokenreduce.ops import linear
from mmaction_tokenreduce.ops.linear import by_convolution


@pytest.mark.parametrize('shape', [(40, 12), (2, 50, 12), (2, 3, 20, 12), (3, 12)])
@pytest.mark.parametrize('with_bias', [True, False])
def test_equals_the_plain_operator(shape, with_bias):
    x = torch.randn(*shape, requires_grad=True)
    weight = torch.randn(7, 12, requires_grad=True)
    bias = torch.randn(7, requires_grad=True) if with_bias else None
    got, want = linear(x, weight, bias), F.linear(x, weight, bias)
    assert_close(got, want)
    assert_close(by_convolution(x, weight, bias), want)
    leaves = [leaf for leaf in (x, weight, bias) if leaf is not None]
    upstream = torch.randn_like(want)
    assert_close(torch.autograd.grad(got, leaves, upstream),
                 torch.autograd.grad(want, leaves, upstream), rtol=1e-4, atol=1e-4)


def test_strided_input_and_other_precisions():
    weight = torch.randn(7, 12)
    x = torch.randn(2, 60, 12)[:, 1:]
    assert_close(linear(x, weight), F.linear(x, weight))
    assert linear(x.bfloat16(), weight.bfloat16()).dtype == torch.bfloat16
    with torch.autocast('cpu', torch.bfloat16):
        assert linear(x, weight).dtype == torch.bfloat16


def test_replacing_keeps_parameters_hooks_and_subclasses():

    class Special(nn.Linear):
        pass

    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 2)),
                          Special(2, 2))
    names, weight = list(model.state_dict()), model[0].weight
    seen = []
    model[0].register_forward_hook(lambda *args: seen.append(1))
    replace_linears(model)
    model(torch.randn(3, 4))
    assert seen and list(model.state_dict()) == names and model[0].weight is weight
    assert type(model[0]) is type(model[1][0]) is FastLinear
    assert type(model[2]) is Special


def test_long_rows_are_no_convolution(monkeypatch):
    monkeypatch.setattr(sys.modules[linear.__module__], '_LONG_ROW', 13)
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 2)
    monkeypatch.setattr(sys.modules[linear.__module__], 'by_convolution',
                        lambda x, weight, bias: 'convolution')
    if torch.backends.mkldnn.is_available():
        assert linear(torch.randn(40, 12), torch.randn(7, 12)) == 'convolution'
    assert linear(torch.randn(40, 13), torch.randn(7, 13)).shape == (40, 7)
