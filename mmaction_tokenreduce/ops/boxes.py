# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Arithmetic on boxes of actors (EVAD, Sec. 3.3, and Sparse R-CNN's box coder).

Boxes are corners (x1, y1, x2, y2) in pixels of the network's input; sizes are (height,
width) of an image without its padding.

Legend: B batch, N boxes of a clip.
"""
import math

import torch
from torch import Tensor

__all__ = ['apply_deltas', 'clip_boxes', 'covered_places', 'extend_boxes', 'whwh']

MAX_LOG_SCALE = math.log(100000 / 16)  # a box grows at most by this in one step


def whwh(sizes: Tensor) -> Tensor:
    """(width, height, width, height) (B, 1, 4) of sizes (B, 2), to scale boxes by."""
    return sizes.flip(-1).repeat(1, 2).unsqueeze(1)


def apply_deltas(boxes: Tensor, deltas: Tensor,
                 stds: tuple[float, float] = (0.5, 1.0)) -> Tensor:
    """Move and scale boxes.

    The centre moves by (dx, dy) in widths and heights, which grow by the exponential of
    (dw, dh). Both are bounded above only, as in the release; mmdet's coder bounds them
    on both sides.

    Args:
        boxes: (..., 4).
        deltas: (..., 4), dx, dy, dw, dh before they are scaled.
        stds: What (dx, dy) and (dw, dh) are multiplied by.

    Returns:
        (..., 4), not clipped to any image.
    """
    size = boxes[..., 2:] - boxes[..., :2]
    centre = boxes[..., :2] + 0.5 * size
    centre = centre + deltas[..., :2] * stds[0] * size
    size = size * (deltas[..., 2:] * stds[1]).clamp(max=MAX_LOG_SCALE).exp()
    return torch.cat((centre - 0.5 * size, centre + 0.5 * size), dim=-1)


def extend_boxes(boxes: Tensor, extension: tuple[float, float]) -> Tensor:
    """Boxes that are wider and higher by a share of their own (Table 1f).

    Args:
        boxes: (..., 4).
        extension: Shares of width and height that are added, half on each side; both
            are counted one pixel larger than the corners say, as in the release.
    """
    grown = (boxes[..., 2:] - boxes[..., :2] + 1) * boxes.new_tensor(extension) / 2
    return torch.cat((boxes[..., :2] - grown, boxes[..., 2:] + grown), dim=-1)


def clip_boxes(boxes: Tensor, sizes: Tensor, margin: float = 0.0) -> Tensor:
    """Boxes (B, N, 4) within [0, width - margin] and [0, height - margin].

    Args:
        boxes: (B, N, 4).
        sizes: (B, 2).
        margin: 1 where the last pixel's index is meant, 0 for the image's edge.
    """
    return boxes.clamp(min=0).minimum((whwh(sizes) - margin).to(boxes.dtype))


def covered_places(sizes: Tensor, hw: tuple[int, int], stride: int) -> Tensor:
    """Which tokens of padded frames hold image, be it one pixel: (B, H, W) bool.

    Args:
        sizes: (B, 2), of the images without padding.
        hw: Rows H and columns W of tokens.
        stride: Pixels per token.
    """
    rows, columns = (torch.arange(side, device=sizes.device) * stride for side in hw)
    height, width = sizes.view(-1, 2, 1, 1).unbind(1)
    return (rows.unsqueeze(1) < height) & (columns < width)
