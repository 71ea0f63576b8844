# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Clips played: what a model drops in the dark, what it merges in colour."""
import os
import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.animation import PillowWriter
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..whole_file import whole_file
from .drawing import (
    DROPPED_COLOR,
    KEPT_COLOR,
    dim,
    draw_box,
    kept_box,
    score_text,
)
from .kept import KeptRegions
from .overlays import Overlay, show, show_key

__all__ = ['play_overlays', 'play_selection']

WIDTH, BARS, CAPTION, MARGIN, DPI = 4., 0.55, 0.3, 0.15, 80  # inches; dots per inch
MAXIMUM_COVERAGE, FLOYD_STEINBERG = 1, 3  # in Pillow


def play_selection(images: np.ndarray, kept: KeptRegions, path: str | os.PathLike,
                   title: str = '', fps: float = 8.) -> None:
    """Write a GIF of sampled frames: dropped parts dark, a kept region framed.

    Below runs a bar for each token frame: green where it was kept, as high as its score
    by the first temporal selector that ranks (all alike where none does).

    Args:
        images: (F, H, W, 3) uint8 RGB, the sampled frames; frame f belongs to token
            frame f * T // F.
        kept: What the model kept, of T token frames.
        path: The .gif file, written whole or not at all.
        title: Written at the top.
        fps: Frames a second.

    Raises:
        ValueError: If there are fewer images than token frames, or the path is no .gif.
    """
    _check(images, kept.num_frames, path)
    tall = WIDTH * images.shape[1] / images.shape[2]
    figure, width, height = _stage(title, 1, tall + CAPTION + BARS)

    def axes(bottom: float, tall: float) -> Axes:
        return figure.add_axes((MARGIN / width, bottom / height, WIDTH / width,
                                tall / height))

    picture = axes(BARS + CAPTION + MARGIN, tall)
    bars = axes(MARGIN, BARS)
    writer = _Writer(fps=fps)
    with whole_file(path) as part, writer.saving(figure, part, DPI):
        for f, image in enumerate(images):
            t = f * kept.num_frames // len(images)
            _show(picture, image, kept, t, f'frame {f} of {len(images)}')
            _show_bars(bars, kept, t)
            writer.grab_frame()


def play_overlays(images: np.ndarray, overlays: Sequence[Overlay],
                  path: str | os.PathLike, title: str = '', fps: float = 8.) -> None:
    """Write a GIF of sampled frames, side by side with each overlay over them.

    Args:
        images: (F, H, W, 3) uint8 RGB, the sampled frames; frame f belongs to token
            frame f * T // F.
        overlays: At least one, all of T token frames.
        path: The .gif file, written whole or not at all.
        title: Written at the top.
        fps: Frames a second.

    Raises:
        ValueError: If there are fewer images than token frames, or the path is no .gif.
    """
    frames = overlays[0].num_frames
    _check(images, frames, path)
    tall = WIDTH * images.shape[1] / images.shape[2]
    keys = max(overlay.key_height for overlay in overlays)
    figure, width, height = _stage(title, len(overlays), tall + CAPTION + keys)

    def axes(number: int, bottom: float, tall: float) -> Axes:
        return figure.add_axes(((MARGIN + number * (WIDTH + MARGIN)) / width,
                                bottom / height, WIDTH / width, tall / height))

    pictures = [axes(i, keys + CAPTION + MARGIN, tall) for i in range(len(overlays))]
    for i, overlay in enumerate(overlays):
        if overlay.key_height:
            key = axes(i, MARGIN + keys - overlay.key_height, overlay.key_height)
            key.set_axis_off()
            show_key(key, overlay, WIDTH)
    writer = _Writer(fps=fps)
    with whole_file(path) as part, writer.saving(figure, part, DPI):
        for f, image in enumerate(images):
            t = f * frames // len(images)
            names = [f'frame {f} of {len(images)}, token frame '
                     f'{overlays[0].caption(t)}',
                     *(overlay.name for overlay in overlays[1:])]
            for ax, overlay, name in zip(pictures, overlays, names, strict=True):
                ax.clear()
                ax.set_axis_off()
                show(ax, overlay, image, t)
                ax.text(0, -0.08 / tall, name, transform=ax.transAxes, va='top',
                        fontsize=9)
            writer.grab_frame()


def _check(images: np.ndarray, frames: int, path: str | os.PathLike) -> None:
    if len(images) < frames:
        raise ValueError(f'{len(images)} images for {frames} token frames')
    if os.path.splitext(path)[1].lower() != '.gif':
        raise ValueError(f'{path}: the moving picture is a .gif')


def _stage(title: str, columns: int, tall: float) -> tuple[Figure, float, float]:
    """A figure with its title, its width and height, ``tall`` being left below."""
    title = textwrap.fill(title, 50 * columns)
    text = 0.1 + 0.2 * (title.count('\n') + 1) if title else 0.
    width = columns * (WIDTH + MARGIN) + MARGIN
    height = text + tall + 2 * MARGIN
    figure = Figure(figsize=(width, height))
    figure.text(MARGIN / width, 1 - 0.1 / height, title, va='top', fontsize=10)
    return figure, width, height


class _Writer(PillowWriter):
    """Picks each frame's 256 colours so that rare ones, of a legend say, count as much
    as frequent ones, and dithers between them."""

    def grab_frame(self, **savefig_kwargs) -> None:
        super().grab_frame(**savefig_kwargs)
        image = self._frames[-1].convert('RGB')
        colors = image.quantize(256, method=MAXIMUM_COVERAGE)
        self._frames[-1] = image.quantize(palette=colors, dither=FLOYD_STEINBERG)


def _show(ax: Axes, image: np.ndarray, kept: KeptRegions, t: int, where: str) -> None:
    ax.clear()
    ax.set_axis_off()
    ax.imshow(dim(image, kept, t), interpolation='nearest', aspect='auto')
    box = kept_box(kept, t)
    if box is not None:
        draw_box(ax, box, *image.shape[:2], edgecolor=KEPT_COLOR, linewidth=3)
    is_kept = t in kept.frames
    words = [where, f'token frame #{t} {"kept" if is_kept else "dropped"}',
             score_text(kept, t)]
    ax.text(0, -0.08 / (ax.get_position().height * ax.figure.get_figheight()),
            ', '.join(filter(None, words)), transform=ax.transAxes, va='top',
            fontsize=9, color=KEPT_COLOR if is_kept else DROPPED_COLOR)


def _show_bars(ax: Axes, kept: KeptRegions, now: int) -> None:
    scores = np.nan_to_num(kept.scores[0]) if kept.scores else np.ones(kept.num_frames)
    ax.clear()
    ax.set_axis_off()
    ax.set_xlim(-0.5, kept.num_frames - 0.5)
    ax.set_ylim(0, 1.05)
    places = range(kept.num_frames)
    ax.axvspan(now - 0.5, now + 0.5, color='0.85')
    ax.bar(places, np.maximum(scores, 0.04), width=0.7, color=[
        KEPT_COLOR if t in kept.frames else '0.6' for t in places])
