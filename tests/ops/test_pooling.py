# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Channels-last pooling against PyTorch's 3D operators."""
import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from mmaction_tokenreduce.ops.pooling import depthwise_conv3d, max_pool_frames


def conv3d(x, weight, stride):
    padding = [size // 2 for size in weight.shape[2:]]
    y = F.conv3d(x.permute(0, 4, 1, 2, 3), weight, stride=stride, padding=padding,
                 groups=len(weight))
    return y.permute(0, 2, 3, 4, 1)


@pytest.mark.parametrize('kernel', [(3, 3, 3), (1, 3, 3), (5, 3, 1)])
@pytest.mark.parametrize('stride', [(1, 1, 1), (1, 4, 4), (2, 2, 1), (3, 2, 2)])
@pytest.mark.parametrize('frames', [1, 2, 7])
def test_depthwise_conv3d(kernel, stride, frames):
    x = torch.randn(2, frames, 6, 9, 4, dtype=torch.double, requires_grad=True)
    weight = torch.randn(4, 1, *kernel, dtype=torch.double, requires_grad=True)
    got, want = depthwise_conv3d(x, weight, stride), conv3d(x, weight, stride)
    assert_close(got, want)
    upstream = torch.randn_like(want)
    assert_close(torch.autograd.grad(got, (x, weight), upstream),
                 torch.autograd.grad(want, (x, weight), upstream))


def test_even_kernels_are_refused():
    with pytest.raises(ValueError, match=r'odd kernel sizes, got \(2, 3, 3\)'):
        depthwise_conv3d(torch.zeros(1, 2, 3, 3, 1), torch.zeros(1, 1, 2, 3, 3),
                         (1, 1, 1))


def test_max_pool_frames():
    x = torch.randn(2, 3, 7, 6, 4)
    want = F.max_pool3d(x.permute(0, 4, 1, 2, 3), (1, 3, 3), (1, 2, 2), (0, 1, 1))
    assert_close(max_pool_frames(x, (3, 3), (2, 2), (1, 1)),
                 want.permute(0, 2, 3, 4, 1))
