# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Pictures of the points that a query samples (DVT, Fig. 2)."""
import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import TwoSlopeNorm
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from ..whole_file import whole_file
from .point_trace import MAPS, MULTI_SCALE, SPACE_TIME, SampledPoints
from .sheet import FRAMES_IN_LINE, GAP, MARGIN, Sheet, text_height, wrap

__all__ = ['PointRow', 'plot_points']

COLORS, QUERY_COLOR = 'bwr', '#ffe000'
MARKERS = 'os'  # of the maps of D-MS-A
PALE = 0.25  # share of white in the frames, on which points stand out
BEYOND = 0.2  # of a frame's side, as far as points beside the frame are drawn
CLOSE, LENS = 0.25, 0.45  # of a frame's side: points closer together are seen larger
SIDES, MIN_WIDTH, LEGEND = (1.6, 3.2), 6.8, 0.95  # inches
CAPTION_LINE, CAPTION_LETTERS = 0.17, 15  # inches; letters per inch

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels


@dataclass(frozen=True, eq=False)
class PointRow:
    """One row of a picture: the points of one query in one block.

    Attributes:
        title: Written above.
        parts: Those of D-ST-A, of D-MS-A, or both.
    """
    title: str
    parts: Sequence[SampledPoints]


@dataclass(frozen=True, eq=False)
class _Panel:
    """One frame of a row, with those maps of an attention that belong to it."""
    part: SampledPoints
    frame: int
    maps: tuple[int, ...]

    @property
    def caption(self) -> str:
        """Which frame, and how much of the attention goes to it or its maps."""
        shares = self.part.shares[list(self.maps)]
        gone = int(self.part.outside[:, list(self.maps)].sum())
        lost = f', {gone} outside' if gone else ''
        query = ' (query)' if self.frame == self.part.frame else ''
        if self.part.kind == MULTI_SCALE:
            parts = ', '.join(f'{share:.0%} {name}'
                              for share, name in zip(shares, MAPS, strict=True))
            return f'#{self.frame} {MULTI_SCALE}: {parts}{lost}'
        return f'#{self.frame}{query}: {shares[0]:.0%} of weight{lost}'


def plot_points(images: np.ndarray, rows: Sequence[PointRow], path: str | os.PathLike,
                heading: str = '') -> None:
    """Draw where a query looks: one row a block, with the frames that it samples.

    A yellow cross marks the query, filled circles what it samples, coloured from blue
    to red by weight. Of D-MS-A, both maps are drawn in the query's frame: circles in
    its own, squares in the convolved one. Points close together are drawn once more,
    larger, in a corner.

    Args:
        images: (T, h, w, 3) uint8 RGB, one image a token frame.
        rows: At least one.
        path: Where the picture is written (whole or not at all); its suffix (.png,
            .pdf, .svg) says how.
        heading: Written at the top.

    Raises:
        ValueError: If there is no row, or not one image for each token frame.
    """
    if not rows:
        raise ValueError('plot_points needs at least one row')
    panels = [_panels(row) for row in rows]
    last = max(panel.frame for row in panels for panel in row)
    if last >= len(images):
        raise ValueError(f'{len(images)} images: token frame {last} is sampled')
    layout = _Layout.of(panels, _view(rows, *images.shape[1:3]))
    heading = wrap(heading, layout.across * 0.87)  # its letters are larger
    titles = [wrap(row.title, layout.across) for row in rows]
    lines = sum(ceil(len(row) / layout.columns) for row in panels)
    sheet = Sheet(layout.across, text_height(heading) + sum(map(text_height, titles))
                  + lines * layout.line + LEGEND)
    if heading:
        sheet.write(heading, 13)
    norm = _norm(rows)
    for row, title in zip(panels, titles, strict=True):
        sheet.write(title, 11, fontweight='bold')
        _draw_row(sheet, images, row, norm, layout)
    _draw_legend(sheet, rows, norm)
    with whole_file(path) as part:
        sheet.figure.savefig(part, dpi=110)


@dataclass(frozen=True)
class _Layout:
    """Where panels stand; all but ``view`` in inches.

    Attributes:
        view: What each shows.
        columns: Panels side by side.
        side: Width of a panel.
        tall: Height of a panel.
        line: Height of a line of panels, captions included.
        across: Width of the picture.
    """
    view: Box
    columns: int
    side: float
    tall: float
    line: float
    across: float

    @classmethod
    def of(cls, rows: Sequence[Sequence[_Panel]], view: Box) -> '_Layout':
        """The layout of panels that show ``view``."""
        columns = max(ceil(len(row) / ceil(len(row) / FRAMES_IN_LINE)) for row in rows)
        side = float(np.clip(9.6 / columns, *SIDES))
        tall = side * (view[3] - view[1]) / (view[2] - view[0])
        breaks = max(_caption(panel, side).count('\n') for row in rows for panel in row)
        return cls(view, columns, side, tall,
                   tall + GAP + 0.07 + CAPTION_LINE * (1 + breaks),
                   max(MIN_WIDTH, columns * (side + GAP) - GAP + 2 * MARGIN))


def _caption(panel: _Panel, side: float) -> str:
    return textwrap.fill(panel.caption, int(side * CAPTION_LETTERS))


def _draw_row(sheet: Sheet, images: np.ndarray, row: Sequence[_Panel],
              norm: TwoSlopeNorm, layout: _Layout) -> None:
    for number, panel in enumerate(row):
        line, column = divmod(number, layout.columns)
        if line and not column:
            sheet.top += layout.line
        ax = sheet.axes(MARGIN + column * (layout.side + GAP), layout.side, layout.tall)
        _draw_panel(ax, images[panel.frame], panel, norm, layout.view)
        ax.text(0, -0.06 / layout.tall, _caption(panel, layout.side), va='top',
                transform=ax.transAxes, fontsize=9, linespacing=1.1)
    sheet.top += layout.line


def _panels(row: PointRow) -> list[_Panel]:
    panels = []
    for part in row.parts:
        if part.kind == SPACE_TIME:
            panels += [_Panel(part, frame, (i, ))
                       for i, frame in enumerate(part.frames)]
        else:
            panels.append(_Panel(part, part.frame, tuple(range(len(part.frames)))))
    return panels


def _view(rows: Sequence[PointRow], height: int, width: int) -> Box:
    """What panels show: the frame, and around it as much as points are beside it."""
    most = BEYOND * max(height, width)
    reach = np.array([_reach(part) for row in rows for part in row.parts])
    low, high = reach[:, :2].min(0), reach[:, 2:].max(0)
    last = np.array((width, height)) - 0.5
    low = np.where(low < -0.5, np.maximum(low - 4, -0.5 - most), -0.5)
    high = np.where(high > last, np.minimum(high + 4, last + most), last)
    return (*low.tolist(), *high.tolist())


def _reach(part: SampledPoints) -> Box:
    """The smallest box around all points and the query's patch."""
    xy, half = part.xy.reshape(-1, 2), np.array(part.patch[::-1]) / 2
    low = np.minimum(xy.min(0), part.query - half)
    high = np.maximum(xy.max(0), part.query + half)
    return (*low.tolist(), *high.tolist())


def _lens(part: SampledPoints, height: int, width: int) -> Box | None:
    """The square that is drawn larger; None where the points stand far apart."""
    left, top, right, bottom = _reach(part)
    side = max(right - left, bottom - top)
    if side > CLOSE * max(height, width):
        return None
    x, y, half = (left + right) / 2, (top + bottom) / 2, 0.6 * side
    return x - half, y - half, x + half, y + half


def _norm(rows: Sequence[PointRow]) -> TwoSlopeNorm:
    """From multiples of an equal share to colours: 0, 1, and the most there is."""
    most = max(float(part.weight.max() / part.equal_share)
               for row in rows for part in row.parts)
    return TwoSlopeNorm(1, 0, max(2, most))


def _draw_panel(ax: Axes, image: np.ndarray, panel: _Panel, norm: TwoSlopeNorm,
                view: Box) -> None:
    _draw_frame(ax, image, view)
    lens = _lens(panel.part, *image.shape[:2])
    if lens is None:
        _draw_query(ax, panel, 12)
        _draw_points(ax, panel, norm)
        return
    _draw_query(ax, panel, 7)
    frame = (lens[0], lens[1]), lens[2] - lens[0], lens[3] - lens[1]
    for color, thick in (('black', 2.2), ('white', 1.2)):
        ax.add_patch(Rectangle(*frame, fill=False, edgecolor=color, linewidth=thick))
    # In the corner that is farthest from it.
    across, down = view[2] - view[0], view[3] - view[1]
    x, y = (lens[0] + lens[2]) / 2, (lens[1] + lens[3]) / 2
    size = LENS * min(across, down)
    share = size / across, size / down
    left = 0 if x > (view[0] + view[2]) / 2 else 1 - share[0]
    bottom = 0 if y < (view[1] + view[3]) / 2 else 1 - share[1]
    inner = ax.inset_axes((left, bottom, *share))
    _draw_frame(inner, image, lens)
    inner.set_xticks([])
    inner.set_yticks([])
    for spine in inner.spines.values():
        spine.set(color='white', linewidth=2)
    _draw_query(inner, panel, 12)
    _draw_points(inner, panel, norm)


def _draw_frame(ax: Axes, image: np.ndarray, view: Box) -> None:
    ax.imshow((1 - PALE) * (image / 255) + PALE, interpolation='nearest', aspect='auto')
    ax.set_xlim(view[0], view[2])
    ax.set_ylim(view[3], view[1])


def _draw_points(ax: Axes, panel: _Panel, norm: TwoSlopeNorm) -> None:
    part = panel.part
    count = part.weight[:, list(panel.maps)].size
    size = 50 if count <= 16 else 30 if count <= 32 else 18
    for marker, number in zip(MARKERS, panel.maps, strict=False):
        weight = part.weight[:, number].ravel() / part.equal_share
        order = np.argsort(weight)  # the heaviest on top
        xy = part.xy[:, number].reshape(-1, 2)[order]
        ax.scatter(*xy.T, s=size, c=weight[order], cmap=COLORS, norm=norm,
                   marker=marker, edgecolors='black', linewidths=0.6, zorder=3)


def _draw_query(ax: Axes, panel: _Panel, length: float) -> None:
    """The query as a cross, and its patch, dotted in other frames than its own."""
    part, here = panel.part, panel.frame == panel.part.frame
    rows, columns = part.patch
    box = (part.query[0] - columns / 2, part.query[1] - rows / 2), columns, rows
    for color, thick in (('black', 2.2), (QUERY_COLOR, 1.2)):
        ax.add_patch(Rectangle(*box, fill=False, edgecolor=color, linewidth=thick,
                               linestyle='-' if here else ':', zorder=2))
    if here:
        for color, thick in (('black', 0.35 * length), (QUERY_COLOR, 0.2 * length)):
            ax.plot(*part.query, marker='x', markersize=length, markeredgewidth=thick,
                    color=color, zorder=4)


def _draw_legend(sheet: Sheet, rows: Sequence[PointRow], norm: TwoSlopeNorm) -> None:
    parts = [part for row in rows for part in row.parts]
    kinds = {part.kind for part in parts}
    handles = [Line2D([], [], marker='x', linestyle='none', color=QUERY_COLOR,
                      markersize=9, markeredgewidth=2.4, label='query')]
    if any(len(set(part.frames)) > 1 for part in parts):
        handles.append(Rectangle((0, 0), 1, 1, fill=False, edgecolor='#b09a00',
                                 linestyle=':', linewidth=1.6,
                                 label='same place in other frames'))
    labels = ['sampled point']
    if MULTI_SCALE in kinds:
        labels.append(f'in the {MAPS[1]} map ({MULTI_SCALE})')
    for marker, label in zip(MARKERS, labels, strict=False):
        handles.append(Line2D([], [], marker=marker, linestyle='none', markersize=8,
                              markerfacecolor='white', markeredgecolor='black',
                              label=label))
    sheet.figure.legend(handles=handles, loc='upper left', ncols=len(handles),
                        frameon=False, fontsize=10, borderaxespad=0, handlelength=1.4,
                        columnspacing=1.6, bbox_to_anchor=(
                            MARGIN / sheet.width, 1 - sheet.top / sheet.height))
    sheet.figure.text(MARGIN / sheet.width, 1 - (sheet.top + 0.5) / sheet.height,
                      'weight of a point', fontsize=10, va='center')
    ax = sheet.axes(1.6, 3.6, 0.16, 0.42)
    ax.set_axis_on()
    bar = sheet.figure.colorbar(ScalarMappable(norm, colormaps[COLORS]), cax=ax,
                                orientation='horizontal', ticks=[0, 1, norm.vmax])
    shares = {part.equal_share for part in parts}
    equal = f' ({shares.pop():.3f})' if len(shares) == 1 else ''
    bar.ax.set_xticklabels(['0', f'equal share{equal}', f'{norm.vmax:.1f} times that'],
                           fontsize=9)
    bar.ax.tick_params(length=3, pad=2)
