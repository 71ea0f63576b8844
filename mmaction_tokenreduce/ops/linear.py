# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Linear layers through oneDNN on CPU, where that is faster (docs/performance.md)."""

import torch
import torch.nn.functional as F
from torch import Tensor

_HAS_ONEDNN = torch.backends.mkldnn.is_available()
# With AVX2 oneDNN's 1x1 convolutions take up to four times as long as MKL's products
# where rows are long and a multiple of 4 KiB apart: 3072 and 4096 channels, at most
# numbers of tokens. All rows from there on go to MKL, which loses a tenth at worst.
_LONG_ROW = (float('inf') if torch.backends.cpu.get_cpu_capability() == 'AVX512'
             else 3072)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear``, computed by oneDNN where that is possible and faster.

    PyTorch sends float32 products to MKL, which has no AVX-512 for AMD processors and
    adds the bias in a pass of its own; as a 1x1 convolution they go to oneDNN.

    Args:
        x: (..., C).
        weight: (D, C).
        bias: (D,) or None.

    Returns:
        (..., D); equal to ``F.linear`` up to float32 rounding.
    """
    return (by_convolution if _suits_onednn(x) else F.linear)(x, weight, bias)


def by_convolution(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear`` as a 1x1 convolution, which oneDNN computes; arguments the same."""
    image = x.reshape(1, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)  # (1, C, tokens, 1)
    y = F.conv2d(image, weight[:, :, None, None], bias)
    return y.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


def _suits_onednn(x: Tensor) -> bool:
    # Compilers and exporters choose kernels themselves; give them the plain operator.
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    # With one thread PyTorch itself keeps a 1x1 convolution from oneDNN.
    return (_HAS_ONEDNN and torch.get_num_threads() > 1 and x.device.type == 'cpu'
            and x.dtype == torch.float32 and x.numel() > x.shape[-1] * 16
            and x.shape[-1] < _LONG_ROW
            and not torch.is_autocast_enabled('cpu'))
