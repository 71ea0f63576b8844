# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Keeping frames and regions of a token grid (STTS, Sec. 3.3, eq. 9).

Tokens are (B, E + T*H*W, C): E extra tokens (CLS) in front, then time-major places.
Every function leaves a rectangular grid behind. A hard choice is one row gather over
the whole sequence, extra tokens included; a soft choice (training) is a weighted sum.

Legend: K kept frames, G anchors of h x w places, gh x gw = G of them in a frame.
"""
from math import isqrt
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import no_autocast

Size3 = tuple[int, int, int]


class Places(NamedTuple):
    """Where the tokens of a reduced grid stand in the full one.

    Attributes:
        frame: (B, T), index of each remaining frame in the full grid; a fraction
            where a pooling in time met frames that do not fit its stride.
        top: (B, T) float, row of the full grid at which a frame's first row stands.
        left: (B, T) float, the same for columns.
        full: (T, H, W) of the grid if nothing had been dropped.
    """
    frame: Tensor
    top: Tensor
    left: Tensor
    full: Size3

    @classmethod
    def of_full_grid(cls, batch: int, thw: Size3, device: torch.device) -> 'Places':
        """Places of a grid of which nothing has been dropped."""
        frame = torch.arange(thw[0], device=device).expand(batch, -1)
        zero = torch.zeros(batch, thw[0], device=device)
        return cls(frame, zero, zero, thw)

    def keep_frames(self, index: Tensor) -> 'Places':
        """Places after the frames ``index`` (B, K) were kept."""
        return self._replace(**{
            name: getattr(self, name).gather(1, index)
            for name in ('frame', 'top', 'left')})

    def shift(self, top: Tensor, left: Tensor) -> 'Places':
        """Places after each frame was cropped at row and column (B, T)."""
        return self._replace(top=self.top + top, left=self.left + left)

    def pool(self, stride: Size3, full: Size3) -> 'Places':
        """Places after a centred pooling by ``stride``, in cells of the pooled grid."""
        step = stride[0]
        frame = self.frame if step == 1 else self.frame[:, ::step] / step
        return Places(frame, self.top[:, ::step] / stride[1],
                      self.left[:, ::step] / stride[2], full)


class AnchorGrid(NamedTuple):
    """Overlapping anchors of one frame, row-major (Sec. 3.3, spatial selection)."""
    size: tuple[int, int]
    stride: tuple[int, int]
    counts: tuple[int, int]

    def corner(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Top row and left column of the anchors with this ``index``."""
        return (index // self.counts[1] * self.stride[0],
                index % self.counts[1] * self.stride[1])


def anchor_size(hw: tuple[int, int], keep: float) -> tuple[int, int]:
    """Largest anchor of the grid's proportions with at most int(H*W*keep) places.

    On a square grid this is isqrt(int(N * keep)) on both sides, as in the release.
    """
    height, width = hw
    area = int(height * width * keep)
    return isqrt(area * height // width), isqrt(area * width // height)


def anchor_grid(hw: tuple[int, int], size: tuple[int, int]) -> AnchorGrid:
    """Anchors of ``size`` at stride max((side - size) // 2, 1), while they fit.

    Raises:
        ValueError: If the anchor is empty or larger than the grid.
    """
    if not (1 <= size[0] <= hw[0] and 1 <= size[1] <= hw[1]):
        raise ValueError(f'an anchor of {size[0]}x{size[1]} places does not fit a grid '
                         f'of {hw[0]}x{hw[1]}: allowed are 1x1 to {hw[0]}x{hw[1]}')
    stride = tuple(max((side - part) // 2, 1)
                   for side, part in zip(hw, size, strict=True))
    counts = tuple((side - part) // step + 1
                   for side, part, step in zip(hw, size, stride, strict=True))
    return AnchorGrid(size, stride, counts)


def anchor_scores(scores: Tensor, hw: tuple[int, int], grid: AnchorGrid) -> Tensor:
    """Mean token score (M, H*W) inside each anchor: (M, G)."""
    maps = scores.view(-1, 1, *hw)
    return F.avg_pool2d(maps, grid.size, grid.stride).flatten(1)


def anchor_features(frames: Tensor, hw: tuple[int, int], grid: AnchorGrid) -> Tensor:
    """Mean feature of frames (M, H*W, C) inside each anchor: (M, G, C)."""
    maps = frames.transpose(1, 2).unflatten(2, hw)
    return F.avg_pool2d(maps, grid.size, grid.stride).flatten(2).transpose(1, 2)


def split_extra(x: Tensor, thw: Size3) -> tuple[Tensor, Tensor]:
    """Tokens as (extra (B, E, C), grid (B, T, H*W, C)); both are views.

    Raises:
        ValueError: If there are fewer tokens than places.
    """
    t, h, w = thw
    num_extra = x.shape[1] - t * h * w
    if num_extra < 0:
        raise ValueError(f'{x.shape[1]} tokens do not fill a grid of {t}x{h}x{w}')
    return x[:, :num_extra], x[:, num_extra:].unflatten(1, (t, h * w))


def keep_frames(x: Tensor, thw: Size3, index: Tensor) -> Tensor:
    """Extra tokens and the frames ``index`` (B, K) of x: (B, E + K*H*W, C)."""
    t, h, w = thw
    inside = torch.arange(h * w, device=x.device)
    return _take_places(x, thw, (index.unsqueeze(-1) * (h * w) + inside).flatten(1))


def mix_frames(x: Tensor, thw: Size3, weight: Tensor) -> Tensor:
    """Frames summed with ``weight`` (B, K, T) (eq. 9): (B, E + K*H*W, C)."""
    extra, grid = split_extra(x, thw)
    with no_autocast(x):  # as exact as gathering
        frames = weight.to(x.dtype) @ grid.flatten(2)
    return torch.cat((extra, frames.view(len(x), -1, x.shape[-1])), dim=1)


def keep_regions(x: Tensor, thw: Size3, index: Tensor, grid: AnchorGrid) -> Tensor:
    """Extra tokens and anchor ``index`` (B, T) of each frame: (B, E + T*h*w, C)."""
    t, h, w = thw
    top, left = grid.corner(index)
    rows = torch.arange(grid.size[0], device=x.device)
    cols = torch.arange(grid.size[1], device=x.device)
    inside = rows.unsqueeze(1) * w + cols  # (h, w)
    first = torch.arange(t, device=x.device) * (h * w) + top * w + left  # (B, T)
    return _take_places(x, thw, (first[..., None, None] + inside).flatten(1))


def mix_regions(x: Tensor, thw: Size3, weight: Tensor, grid: AnchorGrid) -> Tensor:
    """Anchors of each frame summed with ``weight`` (B, T, G).

    A loop over the few anchors (at most 16, of slices that are views) needs far less
    memory than all anchors side by side.
    """
    extra, tokens = split_extra(x, thw)
    maps = tokens.unflatten(2, thw[1:])  # (B, T, H, W, C)
    weight = weight.to(x.dtype)
    region = None
    for g in range(weight.shape[-1]):
        top, left = (g // grid.counts[1] * grid.stride[0],
                     g % grid.counts[1] * grid.stride[1])
        crop = maps[:, :, top:top + grid.size[0], left:left + grid.size[1]]
        part = crop * weight[:, :, g, None, None, None]
        region = part if region is None else region + part
    return torch.cat((extra, region.flatten(1, 3)), dim=1)


def keep_tokens(x: Tensor, thw: Size3, index: Tensor) -> Tensor:
    """Extra tokens and places ``index`` (B*T, K) of each frame: (B, E + T*K, C)."""
    t, h, w = thw
    first = torch.arange(t, device=x.device).unsqueeze(1) * (h * w)
    return _take_places(x, thw, (index.unflatten(0, (-1, t)) + first).flatten(1))


def mix_tokens(x: Tensor, thw: Size3, weight: Tensor) -> Tensor:
    """Places of each frame summed with ``weight`` (B*T, K, H*W): (B, E + T*K, C)."""
    extra, grid = split_extra(x, thw)
    with no_autocast(x):  # as exact as gathering
        tokens = weight.to(x.dtype) @ grid.flatten(0, 1)
    return torch.cat((extra, tokens.view(len(x), -1, x.shape[-1])), dim=1)


def _take_places(x: Tensor, thw: Size3, places: Tensor) -> Tensor:
    """Extra tokens, then the places (B, M) of the grid, as one row gather."""
    batch, length, channels = x.shape
    num_extra = length - thw[0] * thw[1] * thw[2]
    extra = torch.arange(num_extra, device=x.device).expand(batch, -1)
    rows = torch.cat((extra, places + num_extra), dim=1)
    rows = rows + torch.arange(batch, device=x.device).unsqueeze(1) * length
    taken = x.reshape(-1, channels).index_select(0, rows.flatten())
    return taken.view(batch, -1, channels)
