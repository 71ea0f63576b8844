# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Convolutions that leave a trace on the ``meta`` device.

PyTorch does not record ``torch.conv2d`` and its like in a trace, but the operation
they end in, which depends on the device: ``aten::_convolution`` on a CPU and none on
``meta``, where their cost would be lost. Here they are called as that operation.
"""
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ['RecordedConvolutions']

Sizes = int | Sequence[int]


class RecordedConvolutions(TorchFunctionMode):
    """A context in which every convolution is recorded as ``aten::_convolution``."""

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (),
                           kwargs: dict | None = None) -> Any:
        return _RECORDED.get(func, func)(*args, **(kwargs or {}))


def _convolution(dims: int, input: Tensor, weight: Tensor,
                 bias: Tensor | None = None, stride: Sizes = 1,
                 padding: Sizes | str = 0, dilation: Sizes = 1,
                 groups: int = 1) -> Tensor:
    """``torch.conv{dims}d``; named padding is recorded everywhere, as it is."""
    if isinstance(padding, str):
        plain = getattr(torch, f'conv{dims}d')
        return plain(input, weight, bias, stride, padding, dilation, groups)
    return _record(dims, input, weight, bias, stride, padding, dilation, False, 0,
                   groups)


def _transposed(dims: int, input: Tensor, weight: Tensor,
                bias: Tensor | None = None, stride: Sizes = 1, padding: Sizes = 0,
                output_padding: Sizes = 0, groups: int = 1,
                dilation: Sizes = 1) -> Tensor:
    """``torch.conv_transpose{dims}d``."""
    return _record(dims, input, weight, bias, stride, padding, dilation, True,
                   output_padding, groups)


def _record(dims: int, input: Tensor, weight: Tensor, bias: Tensor | None,
            stride: Sizes, padding: Sizes, dilation: Sizes, transposed: bool,
            output_padding: Sizes, groups: int) -> Tensor:
    if input.dim() == dims + 1:  # no batch
        return _record(dims, input.unsqueeze(0), weight, bias, stride, padding,
                       dilation, transposed, output_padding, groups).squeeze(0)
    stride, padding, dilation, output_padding = (
        [size] * dims if isinstance(size, int) else list(size)
        for size in (stride, padding, dilation, output_padding))
    # The last four choose among implementations, of which meta has one.
    return torch._convolution(input, weight, bias, stride, padding, dilation,
                              transposed, output_padding, groups,
                              False, False, False, False)


_RECORDED = {
    **{getattr(torch, f'conv{dims}d'): partial(_convolution, dims)
       for dims in (1, 2, 3)},
    **{getattr(torch, f'conv_transpose{dims}d'): partial(_transposed, dims)
       for dims in (1, 2, 3)},
}
