# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Sums of bilinear samples, as deformable attention takes them (DVT, eq. 10 and 15).

A sum of S samples of a map is a weighted sum of 4 S of its rows, so that one
``embedding_bag`` reads each row where it lies and keeps no sample: on CPU that is
bound by memory, and twice as fast as ``grid_sample`` and a product with the weights.

Legend: C channels of a row, S samples of a sum, H x W places of a map.
"""
import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import no_autocast

__all__ = ['bilinear_rows', 'grid_points', 'sum_of_rows']


def grid_points(hw: tuple[int, int], stride: int, device: torch.device) -> Tensor:
    """x and y (H*W, 2) of a grid's places in one that is ``stride`` times as fine."""
    rows, columns = (torch.arange(side, device=device) * stride for side in hw)
    y, x = torch.meshgrid(rows, columns, indexing='ij')
    return torch.stack((x, y), -1).flatten(0, 1).float()


def bilinear_rows(points: Tensor, hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The rows of a map that a bilinear sample reads, and how much of each.

    Args:
        points: (..., 2), x and y in cells; place (i, j) of the map is at x = j, y = i.
        hw: H, W. Outside of the map are zeros.

    Returns:
        Index (..., 4) into the H * W rows, row-major, and weight (..., 4), which is
        zero for neighbours outside.
    """
    size = points.new_tensor((hw[1], hw[0]))
    first = points.detach().floor()
    part = points - first  # (..., 2)
    corner = torch.stack((first, first + 1), dim=-1)  # (..., 2 axes, 2 sides)
    weight = torch.stack((1 - part, part), dim=-1)
    inside = (corner >= 0) & (corner < size.unsqueeze(-1))
    weight = weight * inside
    corner = corner.clamp(min=torch.zeros_like(size).unsqueeze(-1),
                          max=(size - 1).unsqueeze(-1))
    x, y = corner.unbind(-2)
    weight_x, weight_y = weight.unbind(-2)
    index = (y.unsqueeze(-1) * hw[1] + x.unsqueeze(-2)).flatten(-2)
    return index.int(), (weight_y.unsqueeze(-1) * weight_x.unsqueeze(-2)).flatten(-2)


def sum_of_rows(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of rows of a table, in float32.

    Args:
        table: (R, C).
        rows: (M, K), index of the rows of each sum.
        weights: (M, K).

    Returns:
        (M, C), of the table's type.
    """
    with no_autocast(table):  # it has no kernel of mixed types
        sums = F.embedding_bag(rows, table.float(), mode='sum',
                               per_sample_weights=weights.float())
    return sums.to(table.dtype)
