# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Displacement fields on a grid: chained, inverted, used to warp (DVT, Sec. 3.2).

A field (..., 2, H, W) gives for each cell of frame t by how many cells its content is
displaced in another frame: channel 0 to the right, 1 down. Fields of block motion jump
at the edges of what moves, so that they are read at the nearest cell; what leaves the
picture is followed at its border. Displacements are rounded, not places, so that fields
of a mirrored clip are mirrored.

Legend: B fields, T frames, P frames of a sub-clip, H x W cells.
"""
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ['chain', 'invert', 'pair_fields', 'warp']

_FILL_STEPS = 2  # cells by which holes are filled from their neighbours


def chain(first: Tensor, second: Tensor) -> Tensor:
    """Follow one field, then another: from frame a to b, and from b to c.

    Args:
        first: (B, 2, H, W), from a to b.
        second: (B, 2, H, W), from b to c.

    Returns:
        (B, 2, H, W), from a to c.
    """
    rows = _index(_cells(first) + first.round())
    return first + second.flatten(2).gather(2, rows.expand(-1, 2, -1)).view_as(first)


def invert(field: Tensor) -> Tensor:
    """The field back: from frame b to a, given that from a to b.

    Each cell of a says where it lands in b; what lands there points back. Where several
    land the one that moved most is in front, as what moves covers what stands still.
    Cells on which nothing lands were uncovered: they take the mean of their neighbours,
    at most two cells away, or else the reverse of the motion at their place.

    Args:
        field: (B, 2, H, W).

    Returns:
        (B, 2, H, W).
    """
    height, width = field.shape[-2:]
    target = _cells(field) + field.round()
    limit = target.new_tensor((width, height)).view(2, 1, 1)
    inside = ((target >= 0) & (target < limit)).all(1, keepdim=True).flatten(2)
    rows, back = _index(target), -field.flatten(2)  # (B, 1, N), (B, 2, N)
    length = torch.where(inside, back.square().sum(1, keepdim=True), -1.0)
    longest = torch.full_like(length, -1.0).scatter_reduce(2, rows, length, 'amax')
    wins = (inside & (length == longest.gather(2, rows))).to(field.dtype)
    count = torch.zeros_like(length).scatter_add(2, rows, wins)
    total = torch.zeros_like(back).scatter_add(2, rows.expand_as(back), back * wins)
    shape = (len(field), 1, height, width)
    known = (count > 0).view(shape).to(field.dtype)
    found = (total / count.clamp(min=1)).view_as(field)
    for _ in range(_FILL_STEPS):
        near = F.avg_pool2d(known, 3, 1, 1)
        mean = F.avg_pool2d(found * known, 3, 1, 1) / near.clamp(min=1e-6)
        found = torch.where(known > 0, found, mean)
        known = ((known > 0) | (near > 0)).to(field.dtype)
    return torch.where(known > 0, found, -field)


def pair_fields(steps: Tensor, sub_clips: int) -> Tensor:
    """Fields between all frames of each sub-clip, from those between neighbours.

    Backward fields are chained; forward ones are chains of inverted steps, which is the
    inverse of the chain.

    Args:
        steps: (B, 2, T, H, W); step t goes from frame t to t - 1, step 0 is not read.
        sub_clips: How many non-overlapping parts the T frames are divided into.

    Returns:
        (B, S, P, P, 2, H, W) with S sub-clips of P = T / S frames; [:, s, i, j] goes
        from frame i to j of sub-clip s, zero where i = j.

    Raises:
        ValueError: If the sub-clips do not divide the frames.
    """
    if sub_clips < 1 or steps.shape[2] % sub_clips:
        raise ValueError(f'sub_clips={sub_clips}: must divide the {steps.shape[2]} '
                         'frames')
    parts = steps.transpose(1, 2).unflatten(1, (sub_clips, -1))  # (B, S, P, 2, H, W)
    frames, rows = parts.shape[2], parts.flatten(0, 1)
    zero = torch.zeros_like(rows[:, 0])
    back = {(i, i): zero for i in range(frames)}
    for i in range(1, frames):
        forward = invert(rows[:, i])
        for j in range(i):
            back[i, j] = chain(rows[:, i], back[i - 1, j])
            back[j, i] = chain(back[j, i - 1], forward)
    pairs = [back[i, j] for i in range(frames) for j in range(frames)]
    stacked = torch.stack(pairs, 1).unflatten(1, (frames, frames))
    return stacked.unflatten(0, parts.shape[:2])


def warp(images: Tensor, field: Tensor) -> Tensor:
    """Predict frames from others by motion compensation, bilinearly.

    Args:
        images: (B, C, H, W), the frames that are referred to.
        field: (B, 2, H, W) in pixels, from the predicted frames to these.

    Returns:
        (B, C, H, W).
    """
    size = field.new_tensor((images.shape[-1], images.shape[-2])).view(2, 1, 1)
    places = (_cells(field) + field + 0.5) * (2 / size) - 1
    return F.grid_sample(images, places.permute(0, 2, 3, 1), padding_mode='border',
                         align_corners=False)


def _cells(field: Tensor) -> Tensor:
    """Column and row of each cell: (2, H, W)."""
    rows = torch.arange(field.shape[-2], device=field.device, dtype=field.dtype)
    columns = torch.arange(field.shape[-1], device=field.device, dtype=field.dtype)
    return torch.stack(torch.meshgrid(columns, rows, indexing='xy'))


def _index(places: Tensor) -> Tensor:
    """Index (B, 1, H*W) of the cells at places (B, 2, H, W), or of those at the border.
    """
    height, width = places.shape[-2:]
    column = places[:, 0].clamp(0, width - 1)
    row = places[:, 1].clamp(0, height - 1)
    return (row * width + column).long().flatten(1).unsqueeze(1)
