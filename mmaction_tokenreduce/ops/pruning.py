# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Dropping tokens of a clip and putting them back (EVAD, Sec. 3.2).

A token is known by its place, its index in the flattened, time-major grid of the clip:
tokens may stand in any order, and a map can be restored from them.

Legend: B batch, T H W grid, N tokens of a clip now, K kept of them, C channels.
"""
from collections.abc import Sequence
from math import ceil, inf

import torch
from torch import Tensor

from .grid import Size3

__all__ = [
    'grid_places', 'is_keyframe', 'kept_count', 'keyframe_first', 'rank_order',
    'restore', 'take_tokens'
]

_SLACK = 1e-9  # 0.55 * 100 is 55.000...01 in floating point


def kept_count(length: int, keep: float) -> int:
    """ceil(keep * length), the tokens of all frames that are kept (Sec. 3.2)."""
    return ceil(keep * length - _SLACK)


def grid_places(batch: int, thw: Size3, device: torch.device) -> Tensor:
    """Places (B, T*H*W) of a grid whose tokens stand in order."""
    t, h, w = thw
    return torch.arange(t * h * w, device=device).expand(batch, -1)


def is_keyframe(places: Tensor, thw: Size3) -> Tensor:
    """Which places (B, N) lie in the middle frame T // 2 of the grid: bool (B, N)."""
    t, h, w = thw
    return places // (h * w) == t // 2


def keyframe_first(thw: Size3, device: torch.device) -> Tensor:
    """Places (T*H*W,) of a grid: the keyframe's, those before it, those after it."""
    t, h, w = thw
    places = torch.arange(t * h * w, device=device)
    start, stop = t // 2 * h * w, (t // 2 + 1) * h * w
    return torch.cat((places[start:stop], places[:start], places[stop:]))


def rank_order(importance: Tensor, fixed: Tensor | None = None,
               valid: Tensor | None = None) -> Tensor:
    """All tokens in the order in which they would be kept.

    Fixed tokens come first in the order in which they stand, then the others by
    descending importance (of equals the one that stands first), padding last.

    Args:
        importance: (B, N), not negative.
        fixed: (B, N) bool, tokens that stay whatever their importance.
        valid: (B, N) bool, False for padding.

    Returns:
        (B, N) int64, indices into the sequence.
    """
    rank = importance.detach().nan_to_num(nan=0.0)
    if valid is not None:
        rank = rank.masked_fill(~valid, -1.0)
    if fixed is not None:
        rank = rank.masked_fill(fixed, inf)
    return rank.argsort(dim=1, descending=True, stable=True)


def take_tokens(x: Tensor, index: Tensor) -> Tensor:
    """Tokens ``index`` (B, K) of x (B, N, C), in that order: (B, K, C)."""
    batch, length, channels = x.shape
    rows = index + torch.arange(batch, device=x.device).unsqueeze(1) * length
    taken = x.reshape(-1, channels).index_select(0, rows.flatten())
    return taken.view(batch, -1, channels)


def restore(parts: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """All tokens of a grid, each at its own place.

    Args:
        parts: Tokens (B, N_i, C) and their places (B, N_i): together each place of
            the grid once.

    Returns:
        (B, T*H*W, C).
    """
    tokens, places = (torch.cat(group, dim=1) for group in zip(*parts, strict=True))
    return take_tokens(tokens, places.argsort(dim=1))
