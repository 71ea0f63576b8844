# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""The matrix products of a model, taken out of it: the floor of its time.

One call is watched at the lowest level, where a linear layer has become ``addmm`` and
fused attention one kernel. Its linear layers, convolutions, products and fused
attention, of the backward pass too, can then be done again in their order, with nothing
between them. They work on the model's own parameters and on noise in the place of
everything else: tensors of the same size, strides and type share theirs, so that it
takes little memory. What the model adds to this time is what could be saved.
"""
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

__all__ = ['MatrixProducts']

_PRODUCTS = frozenset((
    'mm', 'addmm', '_addmm_activation', 'bmm', 'baddbmm', 'addbmm', 'mv', 'addmv',
    'dot', 'vdot', 'linear', 'linear_backward', 'convolution', 'convolution_backward'))
_FUSED = ('scaled_dot_product', 'native_multi_head_attention')


class MatrixProducts:
    """The products of one call.

    Args:
        call: Runs a model, not within ``torch.inference_mode``, where layers do not
            come apart into products.
        kept: Tensors that products read as they are: parameters. Views count too.
    """

    def __init__(self, call: Callable[[], Any], kept: Iterable[Tensor] = ()) -> None:
        with _Recorder(kept) as recorder:
            call()
        self._products = recorder.products

    def __call__(self) -> None:
        """Do all of them again; the results are dropped."""
        with torch.no_grad():
            for operation, args, kwargs in self._products:
                operation(*args, **kwargs)

    @property
    def calls(self) -> dict[str, int]:
        """How often each operation is called, by PyTorch's name of it."""
        return dict(Counter(_name(operation) for operation, _, _ in self._products))

    @property
    def fused_attention(self) -> int:
        """How many calls are fused attention, forward passes alone."""
        return sum(count for name, count in self.calls.items()
                   if _is_fused(name) and not name.endswith('_backward'))


class _Recorder(TorchDispatchMode):
    """Notes products, with noise for what they were called with."""

    def __init__(self, kept: Iterable[Tensor]) -> None:
        super().__init__()
        self.products: list[tuple[Callable, tuple, dict]] = []
        self.kept = {tensor.untyped_storage().data_ptr() for tensor in kept}
        self.noise: dict[tuple, Tensor] = {}

    def __torch_dispatch__(self, operation: Callable, types: Any, args: tuple = (),
                           kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        name = _name(operation)
        if name in _PRODUCTS or _is_fused(name):
            place = iter(range(1000))
            stand_ins = tree_map(
                lambda value: self.stand_in(value, next(place))
                if isinstance(value, Tensor) else value, (args, kwargs))
            self.products.append((operation, *stand_ins))
        return operation(*args, **kwargs)

    def stand_in(self, tensor: Tensor, place: int) -> Tensor:
        """What a product reads instead of its ``place``-th operand."""
        known = tensor.untyped_storage().data_ptr() in self.kept
        if known or not tensor.is_floating_point():
            return tensor.detach()
        key = (place, tensor.shape, tensor.stride(), tensor.dtype, tensor.device)
        if key not in self.noise:
            # strides may be 0 or leave gaps
            length = 1 + sum((size - 1) * stride for size, stride
                             in zip(tensor.shape, tensor.stride(), strict=True))
            flat = torch.randn(max(length, 0), dtype=tensor.dtype, device=tensor.device)
            self.noise[key] = flat.as_strided(tensor.shape, tensor.stride())
        return self.noise[key]


def _name(operation: Any) -> str:
    """PyTorch's name of an operation without namespace and overload."""
    return operation.overloadpacket.__name__


def _is_fused(name: str) -> bool:
    return any(part in name for part in _FUSED)
