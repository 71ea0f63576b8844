# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What token reduction reads from attention, without holding the map.

Fused attention returns no weights. A class token's row is one small product more; what
each token receives on average (column means) is summed over slices of the queries.
Nothing here is differentiated: it ranks tokens.

Legend: B batch, n heads, L tokens, D channels of a head.
"""
import torch
from torch import Tensor

__all__ = ['cls_row', 'received_attention']

_CELLS = 2**22  # of the map that are held at a time: 16 MiB in float32


@torch.no_grad()
def cls_row(q: Tensor, k: Tensor, scale: float) -> Tensor:
    """Attention of the first token to the others, mean over heads.

    Args:
        q: (B, n, L, D), or the first query alone.
        k: (B, n, L, D).
        scale: Of the logits.

    Returns:
        (B, L - 1) float32; the softmax is over all L tokens.
    """
    logits = (q[:, :, :1] @ k.transpose(-2, -1)).float() * scale
    return logits.softmax(-1)[:, :, 0, 1:].mean(1)


@torch.no_grad()
def received_attention(q: Tensor, k: Tensor, scale: float) -> Tensor:
    """Attention that each token receives, mean over heads and queries.

    Args:
        q: (B, n, L, D).
        k: (B, n, L, D).
        scale: Of the logits.

    Returns:
        (B, L) float32, rows that sum to 1.
    """
    batch, heads, length, _ = q.shape
    rows = max(_CELLS // (batch * heads * length), 1)
    total = torch.zeros(batch, length, device=q.device)
    for part in q.split(rows, dim=2):
        logits = (part @ k.transpose(-2, -1)).float() * scale
        total += logits.softmax(-1).sum((1, 2))
    return total / (heads * length)
