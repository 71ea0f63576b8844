# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Sums of bilinear samples, as deformable attention takes them (DVT, eq. 10 and 15).

A sum of K samples of a map is a weighted sum of 4 K of its rows, so that one
``embedding_bag`` reads each row where it lies and keeps no sample. What is left to save
is the arithmetic of places and weights: maps get a border of zeros, into which points
outside are moved, so that nothing has to be masked.

Legend: M maps of H x W places and C channels, n heads, K samples of a sum.
"""
import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import no_autocast

__all__ = ['query_places', 'sum_of_samples']

_BEFORE, _AFTER = 1, 2  # cells of zeros; the last is read with weight 0 only


def query_places(hw: tuple[int, int], stride: int, device: torch.device) -> Tensor:
    """x and y (H*W, 2) of a grid's places in one that is ``stride`` times as fine."""
    rows, columns = (torch.arange(side, device=device) * stride for side in hw)
    y, x = torch.meshgrid(rows, columns, indexing='ij')
    return torch.stack((x, y), -1).flatten(0, 1).float()


def sum_of_samples(maps: Tensor, points: Tensor, weight: Tensor,
                   index: Tensor) -> Tensor:
    """Weighted sums of bilinear samples, in float32; around the maps are zeros.

    Args:
        maps: (M, H, W, C); head h has channels h * C / n to (h + 1) * C / n.
        points: (..., n, K, 2), x and y in cells; place (i, j) is at x = j, y = i.
        weight: (..., n, K).
        index: Which map a sample is taken of; broadcasts to (..., n, K).

    Returns:
        (..., C), of the maps' type.
    """
    heads = weight.shape[-2]
    height, width = (side + _BEFORE + _AFTER for side in maps.shape[1:3])
    border = (0, 0, _BEFORE, _AFTER, _BEFORE, _AFTER)
    with no_autocast(maps):  # embedding_bag has no kernel of mixed types
        table = F.pad(maps.float(), border).view(-1, maps.shape[-1] // heads)
        points = points.float()
        points = points.clamp(points.new_tensor(-1.0),
                              points.new_tensor((maps.shape[2], maps.shape[1])))
        cell = points.detach().floor()
        x, y = (points - cell).unbind(-1)
        x = torch.stack((1 - x, x), -1) * weight.float().unsqueeze(-1)
        shares = torch.stack((1 - y, y), -1).unsqueeze(-1) * x.unsqueeze(-2)
        column, row = cell.int().unbind(-1)
        first = (index.int() * height + row + _BEFORE) * width + column + _BEFORE
        head = torch.arange(heads, device=maps.device, dtype=torch.int32)
        first = first * heads + head.unsqueeze(-1)
        corner = first.new_tensor((0, 1, width, width + 1)) * heads
        rows = first.unsqueeze(-1) + corner
        count = rows[..., 0, 0].numel()
        sums = F.embedding_bag(rows.reshape(count, -1), table, mode='sum',
                               per_sample_weights=shares.reshape(count, -1))
    return sums.view(*weight.shape[:-2], -1).to(maps.dtype)
