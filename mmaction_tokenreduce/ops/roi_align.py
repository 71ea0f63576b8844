# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""RoIAlign (Mask R-CNN, Sec. 3; aligned corners) that is fast on a CPU.

A bin is the mean of 2 x 2 bilinear samples, so a weighted sum of 16 places of a map:
one ``embedding_bag`` over all boxes, all levels of a pyramid, and all frames of a clip,
whose channels stand side by side. On a CPU mmcv's operator takes 14 to 31 times as long
(docs/evad.md). Boxes get no gradient, as in mmcv.

Legend: B batch, N boxes of a clip, H W a map, C channels, S x S bins.
"""
import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import no_autocast

__all__ = ['pyramid_level', 'roi_align', 'roi_max']

# Values of bins that are computed at a time: on a CPU they stay in its cache.
_CELLS = 2**21
_CELLS_ACCELERATOR = 2**28


def pyramid_level(boxes: Tensor, strides: Sequence[int]) -> Tensor:
    """Which map of a pyramid a box is read from (FPN, eq. 1): int64 (B, N).

    A box of 224 x 224 pixels belongs to the map of stride 16.

    Args:
        boxes: (B, N, 4) in pixels.
        strides: Of the maps, each twice the one before, powers of 2.
    """
    width, height = (boxes[..., 2:] - boxes[..., :2]).unbind(-1)
    first = math.log2(strides[0])
    level = torch.floor(4 + torch.log2((width * height).sqrt() / 224 + 1e-8)) - first
    # A box that is no number must not become an index.
    return level.nan_to_num(0).clamp(0, len(strides) - 1).long()


def roi_align(maps: Sequence[Tensor], boxes: Tensor, strides: Sequence[int],
              bins: int = 7, sampling: int = 2) -> Tensor:
    """What each bin of each box holds.

    Args:
        maps: Of a pyramid, (B, H, W, C) each.
        boxes: (B, N, 4) in pixels; parts outside of the maps are read as mmcv does.
        strides: Pixels per cell of each map; see :func:`pyramid_level`.
        bins: S.
        sampling: Samples of a bin are a grid of this side.

    Returns:
        (B, N, S*S, C), row by row, of the maps' type; sums are in float32.
    """
    parts = list(_bins(maps, boxes, strides, bins, sampling))
    return torch.cat(parts).unflatten(0, boxes.shape[:2]).to(maps[0].dtype)


def roi_max(maps: Sequence[Tensor], boxes: Tensor, strides: Sequence[int],
            bins: int = 7, sampling: int = 2) -> Tensor:
    """The largest value among the bins of each box: (B, N, C).

    The arguments are those of :func:`roi_align`.
    """
    parts = [part.amax(1) for part in _bins(maps, boxes, strides, bins, sampling)]
    return torch.cat(parts).unflatten(0, boxes.shape[:2]).to(maps[0].dtype)


def _bins(maps: Sequence[Tensor], boxes: Tensor, strides: Sequence[int], bins: int,
          sampling: int) -> Iterator[Tensor]:
    """(n, S*S, C) float32 of a few boxes at a time, in their order."""
    channels = maps[0].shape[-1]
    with no_autocast(boxes):  # embedding_bag has no kernel of mixed types
        table = torch.cat([part.float().flatten(1, 2) for part in maps], dim=1)
        rows, weights = _places(maps, boxes.detach().float(), strides, bins, sampling)
        table = table.flatten(0, 1)
        cells = _CELLS if boxes.device.type == 'cpu' else _CELLS_ACCELERATOR
        count = max(cells // (bins**2 * channels), 1)
        for row, weight in zip(rows.split(count), weights.split(count), strict=True):
            sums = F.embedding_bag(row.flatten(0, 1), table, mode='sum',
                                   per_sample_weights=weight.flatten(0, 1))
            yield sums.unflatten(0, (-1, bins**2))


def _places(maps: Sequence[Tensor], boxes: Tensor, strides: Sequence[int], bins: int,
            sampling: int) -> tuple[Tensor, Tensor]:
    """Rows of the table and weights that sum up to each bin, (B*N, S*S, K) both."""
    # A trace makes sizes tensors.
    heights, widths = ([int(part.shape[axis]) for part in maps] for axis in (1, 2))
    areas = [h * w for h, w in zip(heights, widths, strict=True)]
    starts = [sum(areas[:level]) for level in range(len(maps))]
    batch = torch.arange(len(boxes), device=boxes.device, dtype=torch.int32)
    start = batch.unsqueeze(1) * sum(areas)
    if len(maps) == 1:
        (stride, ), (height, ), (width, ) = strides, heights, widths
    else:
        level = pyramid_level(boxes, strides)
        stride, height, width, offset = (
            torch.tensor(values, device=boxes.device, dtype=torch.int32)[level]
            for values in (strides, heights, widths, starts))
        start, stride = start + offset, stride.unsqueeze(-1)
    x1, y1, x2, y2 = (boxes / stride - 0.5).unbind(-1)
    row, row_weight = _samples(y1, y2, height, bins, sampling)
    column, column_weight = _samples(x1, x2, width, bins, sampling)
    if len(maps) > 1:
        width = width[..., None, None]
    # (B, N, S, 1, K', 1) with (B, N, 1, S, 1, K')
    rows = (row * width)[:, :, :, None, :, None] + column[:, :, None, :, None]
    rows = rows + start[..., None, None, None, None]
    weights = row_weight[:, :, :, None, :, None] * column_weight[:, :, None, :, None]
    return tuple(values.flatten(4).flatten(2, 3).flatten(0, 1)
                 for values in (rows, weights))


def _samples(low: Tensor, high: Tensor, cells: Tensor | int, bins: int,
             sampling: int) -> tuple[Tensor, Tensor]:
    """Cells along one axis and their weights in the mean of a bin.

    Args:
        low, high: (B, N), where boxes begin and end, in cells.
        cells: How many there are; an int, or (B, N) of the maps the boxes are read
            from.
        bins: S.
        sampling: Samples of a bin.

    Returns:
        int32 and float32 (B, N, S, 2 * sampling). Samples more than a cell outside
        count as 0, nearer ones as the outermost cell.
    """
    count = bins * sampling
    share = (torch.arange(count, device=low.device) + 0.5) / count
    place = low.unsqueeze(-1) + (high - low).unsqueeze(-1) * share
    place = place.nan_to_num()
    if isinstance(cells, Tensor):
        cells = cells.unsqueeze(-1)
    else:
        cells = place.new_tensor(cells)
    inside = (place >= -1) & (place <= cells)
    place = place.clamp(min=0).minimum(cells - 1)
    cell = place.floor()
    beyond = place - cell
    cell = torch.stack((cell, (cell + 1).minimum(cells - 1)), -1).int()
    weight = torch.stack((1 - beyond, beyond), -1) * inside.unsqueeze(-1) / sampling
    return tuple(values.unflatten(2, (bins, sampling)).flatten(3)
                 for values in (cell, weight))
