# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""From kept tokens to features of actors (EVAD, Sec. 3.3).

Tokens return to their places of the clip's grid; a box of the keyframe, extended, is
read in every frame.

Legend: B batch, M tokens, T H W the grid, L = T*H*W, N boxes of a clip, C channels.
"""
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..ops.boxes import clip_boxes, extend_boxes
from ..ops.grid import Size3
from ..ops.roi_align import roi_align, roi_max

__all__ = ['REMAPS', 'ActorPooling', 'PyramidRoIAlign', 'places_of', 'restore_tokens']

REMAPS = ('place', 'released')


def places_of(places: Tensor, num_key: int, remap: str) -> Tensor:
    """Where tokens are put back to the grid, and whose positions they get.

    Args:
        places: (B, M), where they come from; the keyframe's first, row by row.
        num_key: How many stand in front because they are of the keyframe.
        remap: ``'place'``: where they come from. ``'released'``: the tokens behind the
            keyframe's stand in descending importance, and the released head fills the
            places that were kept in ascending order with them, so that each lands on
            another's. Released weights were trained with it.
    """
    if remap == 'place':
        return places
    return torch.cat((places[:, :num_key], places[:, num_key:].sort(1).values), dim=1)


def restore_tokens(tokens: Tensor, places: Tensor, count: int, fill: Tensor) -> Tensor:
    """A clip (B, L, C) of ``count`` places that holds tokens (B, M, C) at their
    ``places`` (B, M), and ``fill``, a (C,) value, elsewhere."""
    clip = fill.to(tokens.dtype).expand(len(tokens), count, -1)
    return clip.scatter(1, places.unsqueeze(-1).expand_as(tokens), tokens)


class ActorPooling(nn.Module):
    """RoIAlign in every frame, the largest of 7x7 bins, the mean over frames.

    Its arithmetic is no part of the published GFLOPs (``counted_apart``).

    Args:
        extension: Shares of a box's width and height that are added to it (Table 1f).
        stride: Pixels per token.
        bins: Side of the grid of bins.

    Raises:
        ValueError: If an argument is not allowed.
    """

    counted_apart = 'RoIAlign'

    def __init__(self, extension: tuple[float, float] = (0.4, 0.2), stride: int = 16,
                 bins: int = 7) -> None:
        super().__init__()
        if len(extension) != 2 or min(extension) < 0:
            raise ValueError(f'roi_extension={extension!r}: must be two numbers, at '
                             'least 0, for width and height')
        self.extension, self.stride, self.bins = tuple(extension), stride, bins

    def forward(self, clip: Tensor, thw: Size3, boxes: Tensor, sizes: Tensor) -> Tensor:
        """Pool the features of actors.

        Args:
            clip: (B, L, C), time-major.
            thw: T, H, W.
            boxes: (B, N, 4) in pixels of the keyframe.
            sizes: (B, 2), height and width of the images without padding.

        Returns:
            (B, N, C).
        """
        if any(self.extension):
            boxes = extend_boxes(boxes, self.extension)
        boxes = clip_boxes(boxes, sizes, margin=1)
        # All frames are read by one call: their channels stand side by side.
        frames = clip.unflatten(1, thw).permute(0, 2, 3, 1, 4).flatten(3)
        pooled = roi_max([frames], boxes, (self.stride, ), self.bins)
        return pooled.unflatten(-1, (thw[0], -1)).mean(2)

    def extra_repr(self) -> str:
        return f'extension={self.extension}, stride={self.stride}, bins={self.bins}'


class PyramidRoIAlign(nn.Module):
    """RoIAlign of each box on its level of a feature pyramid.

    Its arithmetic is no part of the published GFLOPs (``counted_apart``).

    Args:
        strides: Pixels per cell of each level, powers of 2, each twice the one before.
        bins: Side of the grid of bins.

    Raises:
        ValueError: If the strides are others.
    """

    counted_apart = 'RoIAlign'

    def __init__(self, strides: Sequence[int] = (4, 8, 16, 32), bins: int = 7) -> None:
        super().__init__()
        first = strides[0] if strides else 0
        doubled = [first << level for level in range(len(strides))]
        if first < 1 or first & (first - 1) or list(strides) != doubled:
            raise ValueError(f'strides={tuple(strides)}: must be powers of 2, each '
                             'twice the one before')
        self.strides, self.bins = tuple(strides), bins

    def forward(self, maps: Sequence[Tensor], boxes: Tensor) -> Tensor:
        """Maps (B, H, W, C) and boxes (B, N, 4) to bins (B, N, bins^2, C)."""
        return roi_align(maps, boxes, self.strides, self.bins)

    def extra_repr(self) -> str:
        return f'strides={self.strides}, bins={self.bins}'
