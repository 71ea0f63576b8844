# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Pictures of the tokens that prunings keep, a row a pruning (EVAD, Fig. 4).

Legend: T H W grid of patches.
"""
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from .drawing import DIMMED, KEPT_COLOR, draw_box
from .overlays import Overlay, to_pixels
from .pruning_trace import PrunedGrid

__all__ = ['KeptOverlay', 'pruning_overlays']

FRAMED = 3  # width of the keyframe's line


@dataclass(frozen=True, eq=False)
class KeptOverlay(Overlay):
    """Patches whose token is still there as they are, others dark; the keyframe framed.

    Attributes:
        kept: (T, H, W) bool.
        keyframe: The token frame that is framed and named.
        title: Written above.
        name: Written below a moving picture.
        explained: Whether a legend says what this means.
    """
    kept: np.ndarray
    keyframe: int
    title: str = ''
    name: str = ''
    explained: bool = True

    @property
    def num_frames(self) -> int:
        return len(self.kept)

    def paint(self, image: np.ndarray, t: int) -> np.ndarray:
        there = to_pixels(self.kept[t], image.shape[:2])
        return image / 255 * np.where(there, 1, DIMMED)[..., None]

    def outline(self, ax: Axes, t: int, height: int, width: int) -> None:
        if t == self.keyframe:
            draw_box(ax, (0, 0, 1, 1), height, width, edgecolor=KEPT_COLOR,
                     linewidth=FRAMED)

    def caption(self, t: int) -> str:
        if t == self.keyframe:
            return f'#{t} keyframe'
        return f'#{t}'

    def count(self, t: int) -> str:
        there = self.kept[t]
        return f'{there.sum()}/{there.size}'

    def legend(self) -> list[Patch]:
        if not self.explained:
            return []
        return [Patch(facecolor='white', edgecolor='0.5', label='kept'),
                Patch(facecolor=str(DIMMED), label='dropped by then'),
                Patch(facecolor='none', edgecolor=KEPT_COLOR, linewidth=2,
                      label='keyframe'),
                Patch(facecolor='none', edgecolor='none',
                      label='n/m: tokens kept of the frame')]


def pruning_overlays(grids: Sequence[PrunedGrid]) -> list[KeptOverlay]:
    """The rows of the picture: the frames as they are, then one row a pruning.

    For :func:`plot_overlays` and :func:`play_overlays`.

    Args:
        grids: What :class:`PruningTrace` saw of one clip.

    Raises:
        ValueError: If there is none.
    """
    if not grids:
        raise ValueError('pruning_overlays needs at least one pruning')
    all_kept = np.ones_like(grids[0].kept)
    rows = [KeptOverlay(all_kept, grids[0].keyframe, 'token frames, '
                        f'{all_kept.size} tokens', explained=False)]
    for grid in grids:
        text = grid.summary()
        rows.append(KeptOverlay(grid.kept, grid.keyframe, f'kept {text}', text,
                                explained=grid is grids[-1]))
    return rows
