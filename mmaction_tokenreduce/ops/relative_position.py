# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Decomposed relative position bias at true distances (MViTv2, arXiv 2112.01526, 4.1).

A host whose grid was reduced must not resize its tables for the smaller grid: kept
frames and rows read the entries of the distances at which they really stand.

Legend: q and k grids (T, H, W) each, n heads, D channels of a head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .grid import Places, Size3


def decomposed_bias(q: Tensor, q_thw: Size3, k_thw: Size3,
                    tables: tuple[Tensor, Tensor, Tensor], q_full: Size3,
                    k_full: Size3, q_places: Places | None = None,
                    k_places: Places | None = None) -> Tensor:
    """Bias of attention logits: the query times a row of each axis' table.

    Args:
        q: (B, n, Tq*Hq*Wq, D), without extra tokens.
        q_thw: The query grid.
        k_thw: The key grid.
        tables: For t, h and w: (2 * max(q, k) - 1, D) of the full grids' sizes; of
            another length they are resized linearly (another input size).
        q_full: The query grid if nothing had been dropped.
        k_full: The same for keys.
        q_places: Where the queries stand; None if the grids are full.
        k_places: The same for keys.

    Returns:
        (B, n, Tq*Hq*Wq, Tk*Hk*Wk).
    """
    q = q.unflatten(2, q_thw)  # (B, n, t, h, w, D)
    if q_places is None:
        q_places = Places.of_full_grid(1, q_full, q.device)
        k_places = Places.of_full_grid(1, k_full, q.device)
        q_places, k_places = _first_frame_only(q_places), _first_frame_only(k_places)
        frames = (torch.arange(q_thw[0], device=q.device)[None],
                  torch.arange(k_thw[0], device=q.device)[None])
    else:
        frames = (q_places.frame, k_places.frame)
    table_t, table_h, table_w = tables
    entries = _entries(table_t, frames[0], frames[1], q_full[0], k_full[0])
    bias = torch.einsum('bnthwd,btsd->bnthws', q, entries)[..., None, None]
    rows = _entries_in_frames(table_h, q_places.top, k_places.top, q_thw[1], k_thw[1],
                              q_full[1], k_full[1])
    bias = bias + torch.einsum('bnthwd,btshyd->bnthwsy', q, rows)[..., None]
    cols = _entries_in_frames(table_w, q_places.left, k_places.left, q_thw[2], k_thw[2],
                              q_full[2], k_full[2])
    bias = bias + torch.einsum('bnthwd,btswxd->bnthwsx', q, cols).unsqueeze(-2)
    return bias.flatten(5).flatten(2, 4)


def _first_frame_only(places: Places) -> Places:
    """Rows and columns stand alike in all frames of a full grid: one will do."""
    return places._replace(top=places.top[:, :1], left=places.left[:, :1])


def _entries_in_frames(table: Tensor, q_start: Tensor, k_start: Tensor, q_size: int,
                       k_size: int, q_full: int, k_full: int) -> Tensor:
    """Entries for rows (or columns): (B, Tq, Tk, q_size, k_size, D).

    ``q_start`` (B, Tq) and ``k_start`` (B, Tk) say where each frame's rows begin.
    """
    q = q_start.unsqueeze(-1) + torch.arange(q_size, device=table.device)
    k = k_start.unsqueeze(-1) + torch.arange(k_size, device=table.device)
    # (B, Tq, 1, Q) against (B, 1, Tk, K)
    return _entries(table, q.unsqueeze(2), k.unsqueeze(1), q_full, k_full)


def _entries(table: Tensor, q: Tensor, k: Tensor, q_full: int, k_full: int) -> Tensor:
    """Table entries for places q (..., Q) and k (..., K): (..., Q, K, D).

    Places count in cells of their own grid; distances in cells of the finer one.
    """
    length = 2 * max(q_full, k_full) - 1
    if len(table) != length:
        table = F.interpolate(table.t()[None], size=length, mode='linear')[0].t()
    q_step, k_step = max(k_full / q_full, 1.0), max(q_full / k_full, 1.0)
    distance = (q.unsqueeze(-1) * q_step - k.unsqueeze(-2) * k_step +
                (k_full - 1) * k_step)
    # A crop may begin between two cells of a pooled grid: stay inside the table.
    return table[distance.long().clamp(0, length - 1)]
