# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What selectors left of a clip, as parts of its frames.

Legend: K kept token frames, T token frames of the clip, h x w places that are left of a
frame, H x W places that a selector saw.
"""
from dataclasses import dataclass, field
from math import gcd

import numpy as np

__all__ = ['Box', 'KeptRegions', 'ScoreMaps', 'take_places', 'whole_frames']

Box = tuple[float, float, float, float]  # top, left, bottom, right, shares of the frame


@dataclass(frozen=True, eq=False)
class ScoreMaps:
    """How one spatial selector ranked what it chose among, in the frames it saw.

    Attributes:
        scores: Token frame to (rows, columns) scores from 0 to 1, of anchors by their
            corners or of single places.
        chosen: Token frame to (row, column) of each of those that were kept.
        unit: ``'anchor'`` or ``'token'``, what was chosen among.
    """
    scores: dict[int, np.ndarray]
    chosen: dict[int, list[tuple[int, int]]]
    unit: str


@dataclass(frozen=True, eq=False)
class KeptRegions:
    """What the selectors left of one clip.

    Attributes:
        frames: Kept token frames, ascending.
        cells: (K, h, w, 4), the part of the frame that each place was cut from: top,
            left, bottom, right as shares of the frame. One rectangular region has
            cells side by side; tokens chosen one by one are scattered.
        num_frames: Token frames of the clip, T.
        scores: For each temporal selector that ranks frames, in the order in which
            they act: T scores from 0 to 1, NaN for frames that were gone by then.
        maps: The same for spatial selectors.
    """
    frames: list[int]
    cells: np.ndarray
    num_frames: int
    scores: list[list[float]] = field(default_factory=list)
    maps: list[ScoreMaps] = field(default_factory=list)

    @property
    def boxes(self) -> list[Box]:
        """The smallest rectangle around what is left of each kept frame."""
        low = self.cells[..., :2].min(axis=(1, 2))
        high = self.cells[..., 2:].max(axis=(1, 2))
        return [tuple(box) for box in np.concatenate((low, high), axis=1).tolist()]

    @property
    def areas(self) -> np.ndarray:
        """(K, ) share of each kept frame that is left."""
        sides = self.cells[..., 2:] - self.cells[..., :2]
        return sides.prod(axis=-1).sum(axis=(1, 2))

    @property
    def are_boxes(self) -> bool:
        """Whether one rectangle is left of each kept frame."""
        boxes = np.array(self.boxes)
        return np.allclose((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), self.areas)

    def summary(self) -> str:
        """'3 of 8 frames, 56% of their area (21% of the clip)'."""
        area, count = self.areas.mean(), len(self.frames)
        part = '' if np.isclose(area, 1) else f', {area:.0%} of their area'
        return (f'{count} of {self.num_frames} frames{part} '
                f'({count / self.num_frames * area:.0%} of the clip)')


def whole_frames(count: int) -> np.ndarray:
    """Cells (count, 1, 1, 4) of frames of which nothing was dropped."""
    return np.tile(np.array([0., 0., 1., 1.]), (count, 1, 1, 1))


def take_places(cells: np.ndarray, hw: tuple[int, int], index: np.ndarray,
                size: tuple[int, int]) -> np.ndarray:
    """Cells after some places of each frame were kept.

    Since the cells were cut, the host may have pooled its grid: a place then stands for
    a block of cells, which are split first where they do not fill whole places.

    Args:
        cells: (K, h, w, 4) before.
        hw: The grid H x W that the places are counted on.
        index: (K, m * n), row-major numbers of the kept places.
        size: The grid m x n into which they are packed.

    Returns:
        (K, m * a, n * b, 4) where a x b cells fill a place.
    """
    for side in (0, 1):
        parts = hw[side] // gcd(cells.shape[1 + side], hw[side])
        cells = _split(cells, parts, side)
    count, rows, columns, _ = cells.shape
    block = rows // hw[0], columns // hw[1]
    places = cells.reshape(count, hw[0], block[0], hw[1], block[1], 4)
    places = places.swapaxes(2, 3).reshape(count, hw[0] * hw[1], *block, 4)
    kept = np.take_along_axis(places, index[:, :, None, None, None], axis=1)
    kept = kept.reshape(count, *size, *block, 4).swapaxes(2, 3)
    return kept.reshape(count, size[0] * block[0], size[1] * block[1], 4)


def _split(cells: np.ndarray, parts: int, side: int) -> np.ndarray:
    """Each cell in equal parts along rows (side 0) or columns (side 1)."""
    count, rows, columns, _ = cells.shape
    split = np.repeat(cells, parts, axis=1 + side)
    shape = [1, 1, 1]
    shape[1 + side] = -1
    number = np.tile(np.arange(parts), cells.shape[1 + side]).reshape(shape)
    step = (split[..., 2 + side] - split[..., side]) / parts
    split[..., side] += number * step
    split[..., 2 + side] = split[..., side] + step
    return split
