# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Pictures of merged tokens and of attention, over the frames (STTM, Fig. 4).

Legend: T H W grid of patches, h x w pixels of an image, n tokens that are shown.
"""
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from ..whole_file import whole_file
from .drawing import DIMMED, draw_box
from .merge_trace import NOWHERE, MergedTokens
from .sheet import (
    CAPTION,
    FRAMES_IN_LINE,
    GAP,
    Sheet,
    frame_width,
    sheet_width,
    text_height,
    wrap,
)

__all__ = ['HeatOverlay', 'MergeOverlay', 'Overlay', 'plot_overlays', 'show',
           'to_pixels']

FAINT, OPAQUE = 0.6, 0.6  # brightness of what is not shown; share of colour over it
HEAT_COLORS = 'inferno'
LEGEND = 0.3  # inches
HEAT_ENDS = 1, 99  # percentiles of the clip at which the colours end


class Overlay:
    """What is drawn over the frames of one clip.

    Attributes:
        title: Written above.
        num_frames: T.
        name: Short, written below a moving picture.
        key_height: Inches that :meth:`draw_key` needs, 0 where there is no key.
    """
    title: str
    num_frames: int
    name: str = ''
    key_height: float = 0.

    def paint(self, image: np.ndarray, t: int) -> np.ndarray:
        """An image (h, w, 3) uint8 of token frame t, drawn over: float, 0 to 1."""
        raise NotImplementedError  # abstract

    def outline(self, ax: Axes, t: int, height: int, width: int) -> None:
        """Draw lines over an image of token frame t, of height x width pixels."""

    def caption(self, t: int) -> str:
        """Written below token frame t, on its left."""
        return f'#{t}'

    def count(self, t: int) -> str:
        """Written below token frame t, on its right."""
        return ''

    def legend(self) -> list[Patch]:
        """What the colours mean."""
        raise NotImplementedError  # abstract

    def draw_key(self, ax: Axes) -> None:
        """Draw what patches of colour cannot say, in axes that count inches, downwards
        from their upper left corner."""


@dataclass(frozen=True, eq=False)
class MergeOverlay(Overlay):
    """A colour for each of the largest merged tokens, the same in all frames.

    Patches of the other tokens are faint and grey, those that no token holds dark.

    Attributes:
        merged: What the merges made of the clip.
        num_shown: Tokens that get a colour, at least 1.
        title: Written above.

    Raises:
        ValueError: If ``num_shown`` is not allowed.
    """
    merged: MergedTokens
    num_shown: int = 8
    title: str = ''

    def __post_init__(self) -> None:
        if self.num_shown < 1:
            raise ValueError(f'MergeOverlay: num_shown={self.num_shown}: must be at '
                             'least 1')

    @property
    def num_frames(self) -> int:
        return len(self.merged.tokens)

    @cached_property
    def shown(self) -> np.ndarray:
        """(n, ) the tokens that are drawn, largest first."""
        return self.merged.largest(self.num_shown)

    @cached_property
    def colors(self) -> np.ndarray:
        """(n, 3) their colours."""
        few = len(self.shown) <= 8
        # Set1 ends in a grey, which would look like what is not shown.
        table = matplotlib.colormaps['Set1' if few else 'hsv']
        where = range(8) if few else np.linspace(0, 1, len(self.shown), endpoint=False)
        return table(where)[:len(self.shown), :3]

    def paint(self, image: np.ndarray, t: int) -> np.ndarray:
        image = image / 255
        tokens = to_pixels(self.merged.tokens[t], image.shape[:2])
        result = _grey(image) * FAINT
        result[tokens == NOWHERE] *= DIMMED
        for token, color in zip(self.shown, self.colors, strict=True):
            where = tokens == token
            result[where] = (1 - OPAQUE) * image[where] + OPAQUE * color
        return result

    def outline(self, ax: Axes, t: int, height: int, width: int) -> None:
        _, rows, columns = self.merged.tokens.shape
        for (frame, row, column), color in zip(self.merged.meta[self.shown],
                                               self.colors, strict=True):
            if frame == t:
                box = (row / rows, column / columns, (row + 1) / rows,
                       (column + 1) / columns)
                # A white rim, as it may stand among patches of its own colour.
                for edge, thick in (('white', 4), (color, 1.8)):
                    draw_box(ax, box, height, width, edgecolor=edge, linewidth=thick)

    def legend(self) -> list[Patch]:
        handles = [
            Patch(facecolor=self.colors[0], label='one token, in all frames'),
            Patch(facecolor='none', edgecolor=self.colors[0], linewidth=1.8,
                  label='the meta token it stems from'),
            Patch(facecolor=str(FAINT), label='other tokens')
        ]
        if (self.merged.tokens == NOWHERE).any():
            handles.append(Patch(facecolor='0.15', label='dropped before'))
        return handles


@dataclass(frozen=True, eq=False)
class HeatOverlay(Overlay):
    """How much each patch counts, as colours from dark to bright.

    One scale serves the clip, from the 1st to the 99th percentile: every patch counts a
    little, and single ones that gather attention would hide the others.

    Attributes:
        heat: (T, H, W), not negative.
        title: Written above.
    """
    heat: np.ndarray
    title: str = ''

    @property
    def num_frames(self) -> int:
        return len(self.heat)

    @cached_property
    def scaled(self) -> np.ndarray:
        """(T, H, W), 0 to 1."""
        low, high = np.percentile(self.heat, HEAT_ENDS)
        if high <= low:
            return np.zeros_like(self.heat)
        return np.clip((self.heat - low) / (high - low), 0, 1)

    def paint(self, image: np.ndarray, t: int) -> np.ndarray:
        heat = torch.from_numpy(np.ascontiguousarray(self.scaled[t])).float()
        heat = F.interpolate(heat[None, None], image.shape[:2], mode='bilinear',
                             align_corners=False)[0, 0].numpy()
        colors = matplotlib.colormaps[HEAT_COLORS](heat)[..., :3]
        return (1 - OPAQUE) * _grey(image / 255) + OPAQUE * colors

    def legend(self) -> list[Patch]:
        return [Patch(facecolor=matplotlib.colormaps[HEAT_COLORS](share), label=label)
                for share, label in ((0.05, 'least attention'), (0.85, 'most'))]


def plot_overlays(images: np.ndarray, overlays: Sequence[Overlay],
                  path: str | os.PathLike, heading: str = '') -> None:
    """Draw a clip as strips of its token frames, one strip an overlay.

    Args:
        images: (T, h, w, 3) uint8 RGB, one image a token frame.
        overlays: What is drawn over them.
        path: Where the picture is written (whole or not at all); its suffix (.png,
            .pdf, .svg) says how.
        heading: Written at the top.

    Raises:
        ValueError: If there is no overlay, or not one image a token frame.
    """
    if not overlays:
        raise ValueError('plot_overlays needs at least one overlay')
    for overlay in overlays:
        if len(images) != overlay.num_frames:
            raise ValueError(f'{len(images)} images for {overlay.num_frames} token '
                             'frames')
    lines = ceil(len(images) / FRAMES_IN_LINE)
    columns = ceil(len(images) / lines)  # all lines about equally long
    side, width = frame_width(columns), sheet_width(columns)
    tall = side * images.shape[1] / images.shape[2]
    heading = wrap(heading, width)
    titles = [wrap(overlay.title, width) for overlay in overlays]
    strip = lines * (tall + CAPTION + GAP)
    legends = [LEGEND if overlay.legend() else 0. for overlay in overlays]
    sheet = Sheet(width, text_height(heading) + sum(map(text_height, titles)) + 0.05
                  + sum(strip + legend + overlay.key_height
                        for overlay, legend in zip(overlays, legends, strict=True)))
    if heading:
        sheet.write(heading, 13)
    for overlay, title, legend in zip(overlays, titles, legends, strict=True):
        if title:
            sheet.write(title, 11, fontweight='bold')
        for t, image in enumerate(images):
            line, column = divmod(t, columns)
            left = (width - columns * (side + GAP) + GAP) / 2 + column * (side + GAP)
            ax = sheet.axes(left, side, tall, line * (tall + CAPTION + GAP))
            show(ax, overlay, image, t)
            style = dict(transform=ax.transAxes, va='top', fontsize=9)
            ax.text(0, -0.06 / tall, overlay.caption(t), ha='left', **style)
            ax.text(1, -0.06 / tall, overlay.count(t), ha='right', **style)
        sheet.top += strip
        if overlay.key_height:
            ax = sheet.axes(0, width, overlay.key_height)
            show_key(ax, overlay, width)
            sheet.top += overlay.key_height
        sheet.top += legend
        if legend:
            sheet.figure.legend(
                handles=overlay.legend(), loc='lower center', ncols=4, frameon=False,
                fontsize=10, borderaxespad=0, handlelength=1.4, columnspacing=1.6,
                bbox_to_anchor=(0.5, 1 - (sheet.top - 0.08) / sheet.height))
    with whole_file(path) as part:
        sheet.figure.savefig(part, dpi=110)


def show(ax: Axes, overlay: Overlay, image: np.ndarray, t: int) -> None:
    """Draw an image of token frame t with what is over it."""
    ax.imshow(overlay.paint(image, t), interpolation='nearest', aspect='auto')
    overlay.outline(ax, t, *image.shape[:2])


def show_key(ax: Axes, overlay: Overlay, width: float) -> None:
    """Draw the key of an overlay in axes ``width`` inches wide."""
    overlay.draw_key(ax)
    ax.set_xlim(0, width)
    ax.set_ylim(overlay.key_height, 0)


def to_pixels(grid: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Values (H, W, ...) of patches as values of pixels."""
    for axis in (0, 1):
        pixels = np.arange(size[axis])
        grid = grid.take(pixels * grid.shape[axis] // size[axis], axis=axis)
    return grid


def _grey(image: np.ndarray) -> np.ndarray:
    """An image (h, w, 3) without its colours."""
    return (image @ np.array([0.299, 0.587, 0.114]))[..., None].repeat(3, axis=-1)
