# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Drawing one shape with smooth edges."""
from typing import NamedTuple

import numpy as np

# Corners, and distance from the centre to an edge where the corners' is 1.
_POLYGONS = dict(triangle=(3, 0.6), square=(4, 0.75), hexagon=(6, 0.88))
OUTLINES = ('disc', *_POLYGONS)


class Look(NamedTuple):
    """Appearance of a shape: its outline, and the two colours of its checkerboard.

    The colours are (2, 3) float32, RGB; two equal ones make a plain shape.
    """

    outline: str
    colours: np.ndarray


class Stamp(NamedTuple):
    """A drawn shape: its place in the frame, opacity (h, w, 1), colour (h, w, 3)."""

    place: tuple[slice, slice]
    cover: np.ndarray
    colour: np.ndarray

    def blend(self, frame: np.ndarray) -> None:
        """Put the shape over a (H, W, 3) float32 frame, in place."""
        patch = frame[self.place]
        patch += self.cover * (self.colour - patch)


def draw_stamp(look: Look, x: float, y: float, size: float, angle: float,
               shape: tuple[int, int]) -> Stamp:
    """Draw a shape with smooth edges; what is outside of the frame is cut off.

    Args:
        look (Look): Appearance.
        x (float): Centre in pixels.
        y (float): Centre in pixels.
        size (float): Diameter of the circumscribed circle in pixels.
        angle (float): Degrees, clockwise.
        shape (tuple[int, int]): Height and width of the frame.

    Returns:
        Stamp: What to blend into the frame, and where.
    """
    radius = size / 2
    top, bottom = np.clip([y - radius - 1, y + radius + 2], 0, shape[0]).astype(int)
    left, right = np.clip([x - radius - 1, x + radius + 2], 0, shape[1]).astype(int)
    rows = np.arange(top, bottom)[:, None] + (0.5 - y)
    columns = np.arange(left, right) + (0.5 - x)
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    # The shape's own axes; its circumscribed circle has radius 1.
    u = (cos * columns + sin * rows) / radius
    v = (cos * rows - sin * columns) / radius
    cover = np.clip(0.5 - radius * _outline(look.outline, u, v), 0, 1)[..., None]
    share = np.clip(0.5 + radius * _checker(u, v), 0, 1)[..., None]
    colour = share * look.colours[0] + (1 - share) * look.colours[1]
    return Stamp((slice(top, bottom), slice(left, right)), cover, colour)


def _outline(kind: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Distance to the outline in radii, negative inside.

    Polygons have cut corners, so that all outlines fill about the same area.
    """
    disc = np.hypot(u, v) - 1
    if kind == 'disc':
        return disc
    corners, apothem = _POLYGONS[kind]
    normals = 2 * np.pi * np.arange(corners) / corners
    reach = [u * np.cos(normal) + v * np.sin(normal) for normal in normals]
    return np.maximum(np.max(reach, axis=0) - apothem, disc)


def _checker(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Distance, about, to the next border of a checkerboard's fields, signed; in radii.

    No corner of the board lies in the centre, so a turn by 90 degrees shows.
    """
    return np.sin(4 * u + 0.8) * np.sin(4 * v + 0.8) / 4
