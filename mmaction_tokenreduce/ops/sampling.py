# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Sums of bilinear samples, as deformable attention takes them (DVT, eq. 10 and 15).

A sum of K samples of a map is a weighted sum of 4 K of its rows, so that one
``embedding_bag`` reads each row where it lies and keeps no sample. What is left to save
is the arithmetic of places and weights, passes over memory that count no GFLOPs: x, y
and weights are planes of their own, so that every pass runs over whole vectors, and
what lies outside a map is given no weight instead of a mask or a border.

Legend: M maps of H x W places and C channels, n heads, K samples of a sum.
"""
import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import no_autocast

__all__ = ['query_places', 'sum_of_samples']


def query_places(hw: tuple[int, int], stride: int, device: torch.device) -> Tensor:
    """x and y (H*W, 2) of a grid's places in one that is ``stride`` times as fine."""
    rows, columns = (torch.arange(side, device=device) * stride for side in hw)
    y, x = torch.meshgrid(rows, columns, indexing='ij')
    return torch.stack((x, y), -1).flatten(0, 1).float()


def sum_of_samples(maps: Tensor, x: Tensor, y: Tensor, weight: Tensor,
                   index: Tensor) -> Tensor:
    """Weighted sums of bilinear samples, in float32; around the maps are zeros.

    Args:
        maps: (M, H, W, C); head h has channels h * C / n to (h + 1) * C / n.
        x: (..., n, K), in cells; place (i, j) is at x = j, y = i.
        y: (..., n, K).
        weight: (..., n, K).
        index: Which map a sample is taken of; broadcasts to (..., n, K).

    Returns:
        (..., C), of the maps' type.
    """
    kind, heads = maps.dtype, weight.shape[-2]
    with no_autocast(maps):  # embedding_bag has no kernel of mixed types
        maps, weight = maps.float(), weight.float()
        if 1 in maps.shape[1:3]:  # every place needs a neighbour
            maps = F.pad(maps, (0, 0, 0, 1, 0, 1))
        height, width = maps.shape[1:3]
        column, left, right = _neighbours(x.float(), width)
        row, above, below = _neighbours(y.float(), height)
        above, below = above * weight, below * weight
        head = torch.arange(heads, device=maps.device, dtype=torch.int32)
        start = index.int() * (height * width * heads) + head.unsqueeze(-1)
        first = (row * width).add_(column).mul_(heads).add_(start)
        rows = torch.stack((first, first + heads, first + width * heads,
                            first + (width + 1) * heads), -2)
        shares = torch.stack((above * left, above * right, below * left,
                              below * right), -2)
        count = first[..., 0].numel()
        sums = F.embedding_bag(
            rows.reshape(count, -1), maps.reshape(-1, maps.shape[-1] // heads),
            mode='sum', per_sample_weights=shares.reshape(count, -1))
    return sums.view(*weight.shape[:-2], -1).to(kind)


def _neighbours(place: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Along one axis, the first of the two cells of a sample, and the shares of both.

    The cells are always in the map. A share is 1 less the distance, but not below 0:
    cells that are not next to a place outside have none. Where a share has a corner its
    derivative is the one to the right, as if it were made from a fraction; outside of
    the map, at -1 and ``side``, the one to the left.
    """
    place = place.clamp(-1, side)
    first = place.detach().floor().clamp_(0, side - 2)
    along = place - first
    back = 1 - along
    # |along| is along + 2 relu(-along), |back| is 2 relu(back) - back; relu and clamp
    # differ in their derivative at 0.
    one = torch.sub(back, (-along).relu_(), alpha=2).relu_()
    two = torch.sub(1 + back, back.relu(), alpha=2).clamp(min=0)
    return first.int(), one, two
