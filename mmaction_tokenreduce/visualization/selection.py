# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Pictures of kept frames and regions (STTS, Fig. 4)."""
import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from ..whole_file import whole_file
from .drawing import (
    DIMMED,
    DROPPED_COLOR,
    KEPT_COLOR,
    TRUTH_COLOR,
    dim,
    draw_box,
    kept_box,
    score_text,
)
from .kept import Box, KeptRegions, ScoreMaps
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

__all__ = ['SelectionRow', 'plot_selection']

SCORE_COLORS = 'magma'
SCORES_BESIDE_NUMBER = 2  # more stand in lines of their own
SCORE_LINE, SCORE_LETTERS = 0.16, 15.5  # inches; letters per inch


@dataclass(frozen=True)
class SelectionRow:
    """One clip of a picture.

    Attributes:
        images: (T, H, W, 3) uint8 RGB, one image a token frame.
        kept: What the model kept of it.
        title: Written above the row.
        truth: For each token frame the box of what should be looked at, or None.
    """
    images: np.ndarray
    kept: KeptRegions
    title: str
    truth: Sequence[Box | None] | None = None


def plot_selection(rows: Sequence[SelectionRow], path: str | os.PathLike,
                   heading: str = '') -> None:
    """Draw clips as strips: what was dropped is dark, a kept region has a green frame.

    Below each frame stand its number and its scores by the temporal selectors (below
    the number where there are more than two), and small maps of how spatial selectors
    ranked the places of it.

    Args:
        rows: The clips, one a row.
        path: Where the picture is written (whole or not at all); its suffix (.png,
            .pdf, .svg) says how.
        heading: Written at the top.

    Raises:
        ValueError: If there is no row, or a row's images are not one a token frame.
    """
    if not rows:
        raise ValueError('plot_selection needs at least one row')
    for row in rows:
        if len(row.images) != row.kept.num_frames:
            raise ValueError(f'{row.title}: {len(row.images)} images for '
                             f'{row.kept.num_frames} token frames')
    columns = max(_columns(row) for row in rows)
    side, width = frame_width(columns), sheet_width(columns)
    heading = wrap(heading, width)
    titles = [wrap(row.title, width) for row in rows]
    handles = _legend(rows)
    legend_columns = len(handles) if width > 3.4 * len(handles) else 2
    height = (text_height(heading) + sum(map(text_height, titles))
              + sum(_line_height(row, side) * _lines(row) for row in rows)
              + 0.26 * ceil(len(handles) / legend_columns) + 0.15)
    sheet = Sheet(width, height)
    if heading:
        sheet.write(heading, 13)
    for row, title in zip(rows, titles, strict=True):
        sheet.write(title, 11, fontweight='bold')
        _draw_row(sheet, row, side)
    sheet.figure.legend(handles=handles, loc='lower center', ncols=legend_columns,
                        frameon=False, fontsize=10, borderaxespad=0.3,
                        handlelength=1.4, columnspacing=1.6)
    with whole_file(path) as part:
        sheet.figure.savefig(part, dpi=110)


def _columns(row: SelectionRow) -> int:
    """Frames in a line, so that all lines of a clip are about equally long."""
    return ceil(len(row.images) / _lines(row))


def _lines(row: SelectionRow) -> int:
    return ceil(len(row.images) / FRAMES_IN_LINE)


def _map_height(row: SelectionRow, side: float) -> float:
    """Height of a score map: half as wide as a frame, as tall as frames are."""
    return 0.5 * side * row.images.shape[1] / row.images.shape[2]


def _scores_below(row: SelectionRow, t: int, side: float) -> str:
    """The scores of a frame in lines as wide as it; empty where they are so few that
    they stand beside its number."""
    if len(row.kept.scores) <= SCORES_BESIDE_NUMBER:
        return ''
    return textwrap.fill(score_text(row.kept, t), int(side * SCORE_LETTERS))


def _caption_height(row: SelectionRow, side: float) -> float:
    lines = max(len(_scores_below(row, t, side).splitlines())
                for t in range(len(row.images)))
    return CAPTION + lines * SCORE_LINE


def _line_height(row: SelectionRow, side: float) -> float:
    frame = side * row.images.shape[1] / row.images.shape[2]
    maps = len(row.kept.maps) * (_map_height(row, side) + GAP)
    return frame + _caption_height(row, side) + maps + GAP


def _draw_row(sheet: Sheet, row: SelectionRow, side: float) -> None:
    columns = _columns(row)
    height = side * row.images.shape[1] / row.images.shape[2]
    left = (sheet.width - columns * (side + GAP) + GAP) / 2
    for t in range(len(row.images)):
        line, column = divmod(t, columns)
        if line and not column:
            sheet.top += _line_height(row, side)
        x = left + column * (side + GAP)
        _draw_frame(sheet.axes(x, side, height), row, t, side)
        down = height + _caption_height(row, side)
        for ranked in row.kept.maps:
            if t in ranked.scores:
                ax = sheet.axes(x + side / 4, side / 2, _map_height(row, side), down)
                _draw_map(ax, ranked, t)
            down += _map_height(row, side) + GAP
    sheet.top += _line_height(row, side)


def _draw_frame(ax: Axes, row: SelectionRow, t: int, side: float) -> None:
    height, width = row.images.shape[1:3]
    ax.imshow(dim(row.images[t], row.kept, t), interpolation='nearest', aspect='auto')
    box = kept_box(row.kept, t)
    if box is not None:
        draw_box(ax, box, height, width, edgecolor=KEPT_COLOR, linewidth=3)
    truth = None if row.truth is None else row.truth[t]
    if truth is not None:
        draw_box(ax, truth, height, width, edgecolor=TRUTH_COLOR, linewidth=1.5,
                 linestyle='--')
    style = dict(transform=ax.transAxes, va='top', fontsize=9, color=(
        KEPT_COLOR if t in row.kept.frames else DROPPED_COLOR))
    inch = 1 / ax.figure.get_figheight() / ax.get_position().height
    ax.text(0, -0.06 * inch, f'#{t}', ha='left', **style)
    below = _scores_below(row, t, side)
    if below:
        ax.text(0, -(0.06 + SCORE_LINE) * inch, below, ha='left', **style)
    else:
        ax.text(1, -0.06 * inch, score_text(row.kept, t), ha='right', **style)


def _draw_map(ax: Axes, ranked: ScoreMaps, t: int) -> None:
    scores = ranked.scores[t]
    ax.imshow(scores, cmap=SCORE_COLORS, vmin=0, vmax=1, interpolation='nearest',
              aspect='auto')
    if ranked.unit == 'anchor':
        for row, column in ranked.chosen[t]:
            ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False,
                                   clip_on=False, edgecolor=KEPT_COLOR, linewidth=2))


def _legend(rows: Sequence[SelectionRow]) -> list[Patch | Line2D]:
    boxed = any(row.kept.are_boxes for row in rows)
    handles = [
        Patch(facecolor='none' if boxed else 'white', linewidth=2.5 if boxed else 1,
              edgecolor=KEPT_COLOR if boxed else '0.5',
              label='kept: what later blocks see'),
        Patch(facecolor=str(DIMMED), label='dropped')
    ]
    units = {ranked.unit for row in rows for ranked in row.kept.maps}
    if units:
        what = 'places' if units == {'token'} else 'regions, best one framed'
        handles.append(Line2D([], [], marker='s', markersize=9, linestyle='none',
                              markerfacecolor='#fc8961', markeredgecolor='none',
                              label=f'scores of the {what}: dark low, bright high'))
    if any(row.truth is not None for row in rows):
        handles.append(Patch(facecolor='none', edgecolor=TRUTH_COLOR, linestyle='--',
                             label='where the action is (not told to the model)'))
    return handles
