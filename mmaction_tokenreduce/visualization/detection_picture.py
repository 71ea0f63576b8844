# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Boxes of actors with the names of their actions, drawn on images.

Legend: H W pixels of an image, n actors, K actions.
"""
import colorsys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np

__all__ = ['action_captions', 'box_color', 'draw_detections']

FONT = cv2.FONT_HERSHEY_SIMPLEX
GOLDEN = 0.618034  # steps of hue that keep any number of colours apart
STEPS = 24  # places along each side of an image that are tried for a caption
ELLIPSIS = '...'
Color = tuple[int, int, int]


class Style(NamedTuple):
    """Sizes that follow the image.

    Attributes:
        line: Width of the lines of boxes, px.
        scale: Of the font.
        stroke: Width of its strokes, px.
        pad: Room around a caption, px.
    """
    line: int
    scale: float
    stroke: int
    pad: int

    @classmethod
    def of(cls, height: int, width: int) -> 'Style':
        """For an image of that size."""
        side = min(height, width)
        scale = max(side / 720, 0.3)  # letters of FONT are about 22 px high at 1
        return cls(max(1, round(side / 180)), scale, max(1, round(1.6 * scale)),
                   max(1, round(5 * scale)))


class Caption(NamedTuple):
    """Lines of text that are as wide and high as that, px."""
    lines: list[str]
    width: int
    height: int


def action_captions(scores: np.ndarray, class_names: Mapping[int, str],
                    score_thr: float = 0.5, top: int = 3) -> list[list[str]]:
    """What is written at each actor: its actions, best first.

    Args:
        scores: (n, K + 1) as detectors give them: column k is label k, 0 is unused.
        class_names: Names by label; others are written 'label 7'.
        score_thr: Actions of at least this score are named.
        top: So many of an actor at most.

    Returns:
        For each actor lines such as 'sit 0.87'; none where nothing scores as high.
    """
    result = []
    for row in np.asarray(scores, float)[:, 1:]:
        best = np.argsort(-row, kind='stable')[:top]
        result.append([f'{class_names.get(k + 1, f"label {k + 1}")} {row[k]:.2f}'
                       for k in best.tolist() if row[k] >= score_thr])
    return result


def draw_detections(image: np.ndarray, boxes: np.ndarray,
                    captions: Sequence[Sequence[str]]) -> np.ndarray:
    """An image with boxes, and beside each what it says.

    Each box has a colour of its own, by its number. Its lines stand on a ground of this
    colour inside of the image: above the box, where that is free, else below, within or
    beside it, else at the nearest free place; where no place is free, they cover as
    little of other lines as can be. Lines that are too long end in '...', those beyond
    the height of the image are left out.

    Args:
        image: (H, W, 3) uint8 RGB.
        boxes: (n, 4) left, top, right, bottom as shares of width and height; what lies
            beyond the image is cut.
        captions: Lines of text of each box, or none. Letters that the font of the
            installed OpenCV lacks (4.x: all but ASCII) show as question marks.

    Returns:
        (H, W, 3) uint8, another array.

    Raises:
        ValueError: If image or boxes are of another form, or there is not one caption a
            box.
    """
    boxes = np.asarray(boxes, float)
    _check(image, boxes, captions)
    height, width = image.shape[:2]
    style = Style.of(height, width)
    image = np.ascontiguousarray(image).copy()
    frames = [_pixels(box, height, width) for box in boxes]
    for number, (left, top, right, bottom) in enumerate(frames):
        _draw_frame(image, (left, top, right, bottom), box_color(number), style.line)
    taken: list[np.ndarray] = []
    for number, lines in enumerate(captions):
        caption = _fit(lines, style, height, width)
        if not caption.lines:
            continue
        where = _place(caption, number, frames, taken, (height, width))
        taken.append(where)
        _write(image, caption, where, box_color(number), style)
    return image


def box_color(number: int) -> Color:
    """The colour (RGB, 0 to 255) of box ``number``."""
    hue = (0.33 + number * GOLDEN) % 1
    return tuple(round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.85, 1.0))


def _check(image: np.ndarray, boxes: np.ndarray,
           captions: Sequence[Sequence[str]]) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or (
            not image.size):
        raise ValueError('draw_detections: image must be (H, W, 3) uint8, got '
                         f'{image.shape} {image.dtype}')
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not np.isfinite(boxes).all():
        raise ValueError('draw_detections: boxes must be (n, 4) finite numbers, got '
                         f'shape {boxes.shape}')
    if len(captions) != len(boxes):
        raise ValueError(f'draw_detections: {len(captions)} captions for {len(boxes)} '
                         'boxes')


def _pixels(box: np.ndarray, height: int, width: int) -> np.ndarray:
    """(4, ) first and last pixel of a box in each direction, inside of the image."""
    box = box * (width, height, width, height)
    low = np.round(box[:2]).clip(0, (width - 1, height - 1))
    high = (np.round(box[2:]) - 1).clip(low, (width - 1, height - 1))
    return np.concatenate((low, high)).astype(int)


def _draw_frame(image: np.ndarray, box: Sequence[int], color: Color,
                line: int) -> None:
    """Lines along the inside of a box, which show at the edge of an image too."""
    left, top, right, bottom = box
    for inset in range(line):
        if left + inset > right - inset or top + inset > bottom - inset:
            break
        cv2.rectangle(image, (int(left + inset), int(top + inset)),
                      (int(right - inset), int(bottom - inset)), color, 1)


def _fit(lines: Sequence[str], style: Style, height: int, width: int) -> Caption:
    """Lines that fit into an image, and how large they are."""
    line_height = _line_height(style)
    lines = [_cut(line, style, width - 2 * style.pad)
             for line in lines[:max((height - style.pad) // line_height, 0)]]
    lines = [line for line in lines if line]
    across = max((_length(line, style) for line in lines), default=0)
    return Caption(lines, across + 2 * style.pad, len(lines) * line_height + style.pad)


def _cut(line: str, style: Style, room: int) -> str:
    if _length(line, style) <= room:
        return line
    while line and _length(line + ELLIPSIS, style) > room:
        line = line[:-1]
    return line.rstrip() + ELLIPSIS if line else ''


def _length(text: str, style: Style) -> int:
    return cv2.getTextSize(text, FONT, style.scale, style.stroke)[0][0]


def _line_height(style: Style) -> int:
    return round(31 * style.scale) + style.stroke + style.pad


def _place(caption: Caption, number: int, frames: Sequence[np.ndarray],
           taken: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """(4, ) where lines go: left, top, right, bottom, the last two excluded.

    Of the places around the box the first that covers least of other captions and then
    of other boxes; if all of them cover captions, of all places in the image the one
    that covers least of captions, and of such the nearest.
    """
    spots = _around(caption, frames[number])
    room = np.array([size[1] - caption.width, size[0] - caption.height])
    spots = _rectangles(spots.clip(0, room.clip(0)), caption)
    hidden = _overlap(spots, taken)
    others = [box + (0, 0, 1, 1) for i, box in enumerate(frames) if i != number]
    if hidden.min() == 0:
        cost = np.where(hidden == 0, _overlap(spots, others), np.inf)
        return spots[cost.argmin()]
    grid = np.stack(np.meshgrid(*(np.linspace(0, side, STEPS).round()
                                  for side in room.clip(0))), -1).reshape(-1, 2)
    grid = _rectangles(grid, caption)
    hidden = _overlap(grid, taken)
    least = grid[hidden == hidden.min()]
    return least[np.abs(least - spots[0]).sum(1).argmin()]


def _around(caption: Caption, box: np.ndarray) -> np.ndarray:
    """(6, 2) upper left corners: above, below, in the upper and the lower left corner,
    to the right, to the left."""
    left, top, right, bottom = box
    across, tall = caption.width, caption.height
    return np.array([(left, top - tall), (left, bottom + 1), (left, top),
                     (left, bottom + 1 - tall), (right + 1, top), (left - across, top)])


def _rectangles(corners: np.ndarray, caption: Caption) -> np.ndarray:
    """(m, 4) of upper left corners (m, 2)."""
    corners = corners.astype(int)
    return np.concatenate((corners, corners + (caption.width, caption.height)), 1)


def _overlap(spots: np.ndarray, others: Sequence[np.ndarray]) -> np.ndarray:
    """(m, ) px of each rectangle (m, 4) that others cover."""
    total = np.zeros(len(spots))
    for other in others:
        low, high = (np.maximum(spots[:, :2], other[:2]),
                     np.minimum(spots[:, 2:], other[2:]))
        total += (high - low).clip(0).prod(1)
    return total


def _write(image: np.ndarray, caption: Caption, where: np.ndarray, color: Color,
           style: Style) -> None:
    """Lines of text on a ground of a colour, black or white, what is read better."""
    left, top, right, bottom = where.tolist()
    image[top:bottom, left:right] = color
    ink = (0, ) * 3 if np.dot(color, (0.299, 0.587, 0.114)) > 110 else (255, ) * 3
    line_height = _line_height(style)
    for number, line in enumerate(caption.lines):
        base = top + number * line_height + style.pad + round(23 * style.scale)
        cv2.putText(image, line, (left + style.pad, base + style.stroke // 2), FONT,
                    style.scale, ink, style.stroke, cv2.LINE_AA)
