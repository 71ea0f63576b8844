# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Cutting a token grid into attention windows (Video Swin, arXiv 2106.13230, Sec. 3.2).

A plan says which places stand in which window, as one gather over all tokens; windows
of equal size lie side by side in the gathered rows, so that each size is one batch of
attention. Two ways of cutting:

- padded, as Video Swin and STTS's release do: each axis is filled up with zeros to a
  multiple of the window. Shifted windows wrap round, and the window in which the two
  ends meet is masked.
- packed: time is cut into windows of near-equal length and never filled up. Where
  shifted windows would wrap round, they end instead; what the mask forbids is then not
  computed. Height and width are filled up as in the other, so that both agree with the
  dense model wherever the frames fill whole windows.

Legend: T H W grid, N = T*H*W places, B batch, R gathered rows, L places of a window.
"""
from itertools import pairwise, product
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .grid import Size3

__all__ = ['WindowGroup', 'WindowPlan', 'window_bias', 'window_plan']


class WindowGroup(NamedTuple):
    """Windows of equal size, side by side in the gathered rows.

    Attributes:
        size: (lt, lh, lw), L = lt * lh * lw places in each.
        num_rows: Rows that belong to them, over the whole batch.
        mask: (L, L) bool, True where a place may not attend; None where all may.
    """
    size: Size3
    num_rows: int
    mask: Tensor | None


class WindowPlan(NamedTuple):
    """Where tokens go, and how they come back.

    Attributes:
        groups: The windows, in the order of the gathered rows.
        gather_index: (R,) into the B*N tokens; B*N itself stands for a padded place.
        restore_index: (B*N,) into the gathered rows.
        padded: Whether any place is padded.
    """
    groups: tuple[WindowGroup, ...]
    gather_index: Tensor
    restore_index: Tensor
    padded: bool

    def gather(self, x: Tensor) -> Tensor:
        """Tokens (B, N, C) as window rows (R, C); padded places are zero."""
        rows = x.flatten(0, 1)
        if self.padded:
            rows = F.pad(rows, (0, 0, 0, 1))
        return rows.index_select(0, self.gather_index)

    def restore(self, rows: Tensor, batch: int) -> Tensor:
        """Window rows (R, C) as tokens (B, N, C)."""
        return rows.index_select(0, self.restore_index).unflatten(0, (batch, -1))


class _Run(NamedTuple):
    """Windows of equal length along one axis.

    ``places`` (n, length) are positions on the padded axis; the last ``wrapped`` of a
    window stand in it only because the axis was wrapped round.
    """
    places: Tensor
    wrapped: int = 0

    @property
    def parts(self) -> Tensor:
        """(1, length), 0 or 1: which places of a window belong together."""
        length = self.places.shape[1]
        return (torch.arange(length) >= length - self.wrapped).long().unsqueeze(0)


def window_plan(batch: int, thw: Size3, window: Size3, shifted: bool, packed: bool,
                device: torch.device) -> WindowPlan:
    """The windows of a (T, H, W) grid.

    Args:
        batch: B.
        thw: The grid.
        window: Window size; an axis that is not longer is one window and never shifted.
        shifted: Whether windows are shifted by half their size.
        packed: Which way of cutting, see above.
        device: Where the indices are needed.
    """
    num_places = thw[0] * thw[1] * thw[2]
    total = batch * num_places
    first = torch.arange(batch).view(-1, 1, 1) * num_places
    groups, indices = [], []
    for runs in product(*_axis_runs(thw, window, shifted, packed)):
        place = _outer(thw, [run.places for run in runs])  # (windows, L), -1: padded
        rows = torch.where(place < 0, total, place + first).flatten()
        mask = None
        if any(run.wrapped for run in runs):
            part = _outer((2, 2, 2), [run.parts for run in runs])[0]
            mask = (part.unsqueeze(1) != part).to(device)
        size = tuple(run.places.shape[1] for run in runs)
        groups.append(WindowGroup(size, len(rows), mask))
        indices.append(rows)
    gather = torch.cat(indices)
    restore = torch.empty(total + 1, dtype=torch.long)
    restore[gather] = torch.arange(len(gather))
    return WindowPlan(tuple(groups), gather.to(device), restore[:total].to(device),
                      len(gather) > total)


def window_bias(table: Tensor, index: Tensor, window: Size3, size: Size3) -> Tensor:
    """Relative position bias of one window, by true distances within it.

    Args:
        table: (entries, heads), the host's.
        index: (M, M) entry of each pair of places of a full window of ``window``.
        window: The full window's size, M places.
        size: This window's size, not larger along any axis; L places.

    Returns:
        (heads, L, L).
    """
    t, h, w = size
    if size != window:
        index = index.view(*window, *window)[:t, :h, :w, :t, :h, :w]
    length = t * h * w
    return table[index.reshape(-1)].view(length, length, -1).permute(2, 0, 1)


def _axis_runs(thw: Size3, window: Size3, shifted: bool,
               packed: bool) -> list[list[_Run]]:
    """The runs of each axis."""
    axes = []
    for axis, (size, length) in enumerate(zip(thw, window, strict=True)):
        if size <= length:
            axes.append([_cut([0, size])[0]])
        elif not packed:
            axes.append(_wrapping_runs(size, length, length // 2 if shifted else 0))
        else:
            count = -(-size // length)
            if axis:  # height and width are filled up
                size = count * length
            axes.append(_cut(_near_equal_cuts(size, count, shifted)))
    return axes


def _near_equal_cuts(size: int, count: int, shifted: bool) -> list[int]:
    """Where ``count`` windows of an axis begin, and where the last ends."""
    starts = [-(-i * size // count) for i in range(count)]
    if not shifted:
        return [*starts, size]
    shift = -(-size // count) // 2
    return [0, *(start + shift for start in starts), size]


def _cut(cuts: list[int]) -> list[_Run]:
    """Windows between neighbouring cuts; those of equal length in a row are one run."""
    runs: list[list[int]] = []  # start, length, count
    for start, stop in pairwise(cuts):
        if stop == start:
            continue
        if runs and runs[-1][1] == stop - start:
            runs[-1][2] += 1
        else:
            runs.append([start, stop - start, 1])
    return [
        _Run(torch.arange(start, start + length * count).view(count, length))
        for start, length, count in runs
    ]


def _wrapping_runs(size: int, length: int, shift: int) -> list[_Run]:
    """Full windows over the padded axis; the last wraps round if shifted."""
    count = -(-size // length)
    places = ((torch.arange(count * length) + shift) % (count * length))
    places = places.view(count, length)
    if not shift:
        return [_Run(places)]
    return [_Run(places[:-1]), _Run(places[-1:], wrapped=shift)]


def _outer(sizes: Size3, axes: list[Tensor]) -> Tensor:
    """Positions (n_a, l_a) on three axes to indices (n_t*n_h*n_w, l_t*l_h*l_w).

    A position beyond its axis gives -1.
    """
    t, h, w = (axis.view([len(axis) if i == a else 1 for i in range(3)]
                         + [axis.shape[1] if i == a else 1 for i in range(3)])
               for a, axis in enumerate(axes))
    index = (t * sizes[1] + h) * sizes[2] + w
    inside = (t < sizes[0]) & (h < sizes[1]) & (w < sizes[2])
    return torch.where(inside, index, -1).flatten(3).flatten(0, 2)
