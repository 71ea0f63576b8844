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

# Maps, and cells of them, that are held at a time: on a CPU a slice and the keys of its
# heads should stay in caches.
_SMALL = (4, 2**20)
# Cells on accelerators and in graphs, which want few and large products of all maps.
_CELLS = 2**25


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
    weight = None if weight is None else _of_maps(weight, q)
    totals = [sum(_column_sums(part, weight, maps, rows) for rows, part in slices)
              for maps, slices in _map_slices(q, k, scale, valid)]
    return _mean(totals, q)


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
    weight = None if weight is None else _of_maps(weight, q)
    totals, outs, values = [], [], v.flatten(0, 1).contiguous()
    for maps, slices in _map_slices(q, k, scale, valid):
        total, attended = 0, []
        for rows, part in slices:
            total = total + _column_sums(part, weight, maps, rows)
            with no_autocast(q):
                attended.append(part.to(v.dtype) @ values[maps])
        totals.append(total)
        outs.append(torch.cat(attended, dim=1))
    return torch.cat(outs).view_as(v), _mean(totals, q)


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
                ) -> Iterator[tuple[slice, Iterator[tuple[slice, Tensor]]]]:
    """Groups of the B * n maps, and slices (M, R, L) float32 of the maps of each."""
    length, count = q.shape[2], q.shape[0] * q.shape[1]
    group, size = _portions(q)
    # Read once a slice: laid out for the product rather than for the projection.
    keys = k.flatten(0, 1).contiguous().transpose(-2, -1)
    queries = (q * scale).flatten(0, 1)
    hidden = None if valid is None else ~_of_maps(valid, q)

    def slices(maps: slice) -> Iterator[tuple[slice, Tensor]]:
        for start in range(0, length, size):
            rows = slice(start, min(start + size, length))
            logits = (queries[maps, rows] @ keys[maps]).float()
            if hidden is not None:
                logits = logits.masked_fill(hidden[maps], float('-inf'))
            yield rows, logits.softmax(-1)

    groups = [slice(None)] if group is None else [
        slice(start, min(start + group, count)) for start in range(0, count, group)]
    for maps in groups:
        yield maps, slices(maps)


def _portions(q: Tensor) -> tuple[int | None, int]:
    """Maps of a group, None for all of them, and queries of a slice, half at most."""
    batch, heads, length, _ = q.shape
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        group, maps, cells = None, heads, _CELLS  # for any number of clips
    elif q.device.type in ('cpu', 'meta'):
        group = maps = min(_SMALL[0], batch * heads)
        cells = _SMALL[1]
    else:
        group, maps, cells = None, batch * heads, _CELLS
    return group, min(max(cells // (maps * length), 1), -(-length // 2))


def _of_maps(x: Tensor, q: Tensor) -> Tensor:
    """(B, L) of clips to (B * n, 1, L) of their maps."""
    return x[:, None, None].expand(-1, q.shape[1], -1, -1).flatten(0, 1)


def _column_sums(part: Tensor, weight: Tensor | None, maps: slice, rows: slice
                 ) -> Tensor:
    """(M, 1, L) sums over the queries ``rows``, weighted.

    A product is faster than a sum along columns, also where all weights are 1.
    """
    count = part.shape[1]
    row = (part.new_ones(1, 1, 1).expand(part.shape[0], 1, count) if weight is None else
           weight[maps, :, rows].to(part.dtype))
    with no_autocast(part):
        return row @ part


def _mean(totals: list[Tensor], q: Tensor) -> Tensor:
    """(B, L) of sums over the queries of each map."""
    return torch.cat(totals).view(q.shape[0], q.shape[1], -1).mean(1) / q.shape[2]
