# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""A figure filled from the top downwards, which the still pictures share.

All lengths are inches; axes are placed by hand, so that any number of frames, of any
shape, leaves room for its captions.
"""
import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

FRAMES_IN_LINE = 8  # more go on in another line
MARGIN, GAP, CAPTION = 0.15, 0.12, 0.24
MIN_WIDTH = 7.6  # where the legend still fits
LETTERS_PER_INCH = 11  # of titles


class Sheet:
    """A figure that is filled from the top downwards."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height, self.top = width, height, 0.
        self.figure = Figure(figsize=(width, height))

    def axes(self, left: float, width: float, height: float, down: float = 0.) -> Axes:
        """Empty axes, ``down`` below what was filled so far."""
        bottom = self.height - self.top - down - height
        ax = self.figure.add_axes((left / self.width, bottom / self.height,
                                   width / self.width, height / self.height))
        ax.set_axis_off()
        return ax

    def write(self, text: str, size: float, **style) -> None:
        """Lines of text, with room for each; see :func:`text_height`."""
        self.figure.text(MARGIN / self.width,
                         1 - (self.top + 0.08) / self.height, text, va='top',
                         ha='left', fontsize=size, linespacing=1.15, **style)
        self.top += text_height(text)


def text_height(text: str) -> float:
    """Room that :meth:`Sheet.write` takes for a text."""
    return 0.1 + 0.21 * (text.count('\n') + 1) if text else 0.


def wrap(text: str, width: float) -> str:
    """A text in lines for a sheet of that width."""
    return textwrap.fill(text, int((width - 2 * MARGIN) * LETTERS_PER_INCH))


def frame_width(columns: int) -> float:
    """How wide a frame is drawn where so many stand side by side."""
    return float(np.clip(8 / columns, 1.45, 2.4))


def sheet_width(columns: int) -> float:
    """How wide a sheet is for so many frames side by side."""
    return max(MIN_WIDTH, columns * (frame_width(columns) + GAP) - GAP + 2 * MARGIN)
