# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Pictures of kept frames and regions (STTS, Fig. 4)."""
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from ..whole_file import whole_file

KEPT_COLOR, TRUTH_COLOR = '#00b050', '#ffb000'
DIMMED = 0.22  # brightness of what was dropped

Box = Sequence[float]  # top, left, bottom, right, as shares of the frame


@dataclass(frozen=True)
class KeptRegions:
    """What the selectors left of one clip.

    Attributes:
        frames: Kept token frames, ascending.
        boxes: One (top, left, bottom, right) a kept frame, as shares of the frame.
        num_frames: Token frames of the clip.
        scores: Score of each token frame, 0 to 1, where all of them were scored.
    """
    frames: list[int]
    boxes: list[Box]
    num_frames: int
    scores: list[float] | None = None


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
    """Draw clips as strips: what was dropped is dark, what was kept has a green frame.

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
    columns = max(len(row.images) for row in rows)
    figure = Figure(figsize=(1.5 * columns + 0.3, 1.95 * len(rows) + 0.95),
                    layout='constrained')
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        for t, ax in enumerate(line):
            ax.set_axis_off()
            if t < len(row.images):
                _draw_frame(ax, row, t)
        title = line[0].text(0, 1.06, row.title, transform=line[0].transAxes,
                             fontsize=11, fontweight='bold')
        title.set_in_layout(False)  # it may run over the columns beside
    handles = [Patch(facecolor='none', edgecolor=KEPT_COLOR, linewidth=2.5,
                     label='kept: what later blocks see'),
               Patch(facecolor=str(DIMMED), label='dropped')]
    if any(row.truth is not None for row in rows):
        handles.append(Patch(facecolor='none', edgecolor=TRUTH_COLOR, linestyle='--',
                             label='where the action is (not told to the model)'))
    figure.legend(handles=handles, loc='outside lower center', ncols=len(handles),
                  frameon=False, fontsize=11)
    if heading:
        figure.suptitle(heading, fontsize=13)
    with whole_file(path) as part:
        figure.savefig(part, dpi=110)


def _draw_frame(ax: Axes, row: SelectionRow, t: int) -> None:
    image, kept = row.images[t].astype(float) / 255, row.kept
    height, width = image.shape[:2]
    brightness = np.full((height, width, 1), DIMMED)
    box = kept.boxes[kept.frames.index(t)] if t in kept.frames else None
    if box is not None:
        top, left, bottom, right = _pixels(box, height, width)
        brightness[round(top):round(bottom), round(left):round(right)] = 1
    ax.imshow(image * brightness, interpolation='nearest')
    if box is not None:
        _frame(ax, (top, left, bottom, right), edgecolor=KEPT_COLOR, linewidth=3)
    truth = None if row.truth is None else row.truth[t]
    if truth is not None:
        _frame(ax, _pixels(truth, height, width), edgecolor=TRUTH_COLOR, linewidth=1.5,
               linestyle='--')
    if kept.scores is not None:
        ax.text(0.5, -0.03, f'score {kept.scores[t]:.2f}', transform=ax.transAxes,
                ha='center', va='top', fontsize=9,
                color=KEPT_COLOR if box is not None else '0.45')


def _pixels(box: Box, height: int, width: int) -> Box:
    return box[0] * height, box[1] * width, box[2] * height, box[3] * width


def _frame(ax: Axes, box: Box, **style) -> None:
    top, left, bottom, right = box
    ax.add_patch(Rectangle((left - 0.5, top - 0.5), right - left, bottom - top,
                           fill=False, clip_on=False, **style))
