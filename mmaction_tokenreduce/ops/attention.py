# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What token reduction reads from attention, without holding the map.

Fused attention returns no weights. A class token's row is one small product more; what
each token receives on average (column means; EVAD, eq. 1) is summed over slices of the
queries. What is read here is not differentiated: it ranks tokens.

Legend: B batch, n heads, L tokens, D channels of a head.
"""
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import no_autocast

__all__ = ['attend', 'attend_and_receive', 'cls_row', 'received_attention']

# Of the map that are held at a time: on a CPU a slice should stay in its caches, an
# accelerator wants few and large products.
_CELLS = 2**22
_CELLS_ACCELERATOR = 2**25


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
def received_attention(q: Tensor, k: Tensor, scale: float,
                       weight: Tensor | None = None,
                       valid: Tensor | None = None) -> Tensor:
    """Attention that each token receives, mean over heads and queries.

    ``I_j = 1 / L * sum_i weight_i * attn(i, j)`` (EVAD, eq. 1).

    Args:
        q: (B, n, L, D).
        k: (B, n, L, D).
        scale: Of the logits.
        weight: (B, L) of the queries, 1 if None.
        valid: (B, L) bool, False for keys that nothing attends to; all valid if None.

    Returns:
        (B, L) float32; without ``weight`` its rows sum to 1.
    """
    total = _no_attention(q)
    for rows, part in _map_slices(q, k, scale, valid):
        total += _column_sums(part, weight, rows)
    return _mean(total, q)


@torch.no_grad()
def attend_and_receive(q: Tensor, k: Tensor, v: Tensor, scale: float,
                       weight: Tensor | None = None, valid: Tensor | None = None
                       ) -> tuple[Tensor, Tensor]:
    """Attention and what each token receives of it, from one softmax.

    On a CPU this takes less time than fused attention and :func:`received_attention`
    after it; it keeps nothing for a backward pass.

    Args:
        q: (B, n, L, D).
        k: (B, n, L, D).
        v: (B, n, L, D).
        scale: Of the logits.
        weight: See :func:`received_attention`.
        valid: See there.

    Returns:
        The values attended to (B, n, L, D) of v's type, and (B, L) float32 as from
        :func:`received_attention`.
    """
    total, outs, v = _no_attention(q), [], v.contiguous()
    for rows, part in _map_slices(q, k, scale, valid):
        total += _column_sums(part, weight, rows)
        with no_autocast(q):
            outs.append(part.to(v.dtype) @ v)
    return torch.cat(outs, dim=2), _mean(total, q)


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float, dropout: float = 0.0,
           valid: Tensor | None = None) -> Tensor:
    """Fused attention (B, n, L, D) that no key of ``valid`` (B, L) False takes part in.

    Args:
        q: (B, n, L, D).
        k: (B, n, L, D).
        v: (B, n, L, D).
        scale: Of the logits.
        dropout: Share of the weights that is dropped.
        valid: See :func:`received_attention`.
    """
    mask = None if valid is None else valid[:, None, None]  # (B, 1, 1, L)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout,
                                          scale=scale)


def _map_slices(q: Tensor, k: Tensor, scale: float, valid: Tensor | None
                ) -> Iterator[tuple[slice, Tensor]]:
    """Parts (B, n, R, L) float32 of the map, of at most half of the queries each."""
    batch, heads, length, _ = q.shape
    cells = _CELLS if q.device.type in ('cpu', 'meta') else _CELLS_ACCELERATOR
    size = min(max(cells // (batch * heads * length), 1), -(-length // 2))
    # Read once a slice: laid out for the product rather than for the projection.
    keys, q = k.contiguous().transpose(-2, -1), q * scale
    hidden = None if valid is None else ~valid[:, None, None]
    for start in range(0, length, size):
        rows = slice(start, min(start + size, length))
        logits = (q[:, :, rows] @ keys).float()
        if hidden is not None:
            logits = logits.masked_fill(hidden, float('-inf'))
        yield rows, logits.softmax(-1)


def _no_attention(q: Tensor) -> Tensor:
    return torch.zeros(*q.shape[:2], 1, q.shape[2], device=q.device)


def _column_sums(part: Tensor, weight: Tensor | None, rows: slice) -> Tensor:
    """(B, n, 1, L) sums over the queries ``rows``, weighted.

    A product is faster than a sum along columns, also where all weights are 1.
    """
    batch, heads, count, _ = part.shape
    row = (part.new_ones(1, 1, 1, count) if weight is None else
           weight[:, None, None, rows].to(part.dtype))
    with no_autocast(part):
        return row.expand(batch, heads, 1, count) @ part


def _mean(total: Tensor, q: Tensor) -> Tensor:
    return total[:, :, 0].mean(1) / q.shape[2]
