# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What the still and the moving picture share: colours, dimming, frames, captions."""
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from .kept import Box, KeptRegions

KEPT_COLOR, TRUTH_COLOR, DROPPED_COLOR = '#00b050', '#ffb000', '0.45'
DIMMED = 0.4  # brightness of what was dropped


def dim(image: np.ndarray, kept: KeptRegions, t: int) -> np.ndarray:
    """An image of token frame t with what was dropped of it in the dark.

    Args:
        image: (H, W, 3) uint8.
        kept: What was kept of the clip.
        t: Token frame.

    Returns:
        (H, W, 3) float, 0 to 1.
    """
    height, width = image.shape[:2]
    brightness = np.full((height, width, 1), DIMMED)
    if t in kept.frames:
        number = kept.frames.index(t)
        cells = ([kept.boxes[number]] if kept.are_boxes
                 else kept.cells[number].reshape(-1, 4))
        for top, left, bottom, right in cells:
            brightness[_pixel(top, height):_pixel(bottom, height),
                       _pixel(left, width):_pixel(right, width)] = 1
    return image / 255 * brightness


def kept_box(kept: KeptRegions, t: int) -> Box | None:
    """The rectangle kept of token frame t; None where it was dropped, or where what is
    left of it is not one rectangle."""
    if t not in kept.frames or not kept.are_boxes:
        return None
    return kept.boxes[kept.frames.index(t)]


def draw_box(ax: Axes, box: Box, height: int, width: int, **style) -> Rectangle:
    """Frame a part of an image of H x W pixels."""
    top, left, bottom, right = box
    return ax.add_patch(Rectangle(
        (left * width - 0.5, top * height - 0.5), (right - left) * width,
        (bottom - top) * height, fill=False, clip_on=False, **style))


def score_text(kept: KeptRegions, t: int) -> str:
    """'score 0.83', or 'score 0.83, 0.40' where two selectors ranked this frame."""
    ranked = [row[t] for row in kept.scores if not np.isnan(row[t])]
    return 'score ' + ', '.join(f'{score:.2f}' for score in ranked) if ranked else ''


def _pixel(share: float, length: int) -> int:
    """The first pixel from this edge on; neighbours round their common edge alike."""
    return int(share * length + 0.5 - 1e-6)
