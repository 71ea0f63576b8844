# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Displacement fields in colour, and what they leave to explain (DVT, Fig. 3).

Legend: F sampled frames, T token frames, H x W pixels, h x w cells of a field.
"""
from dataclasses import dataclass
from functools import cached_property

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from torch import Tensor

from ..models.motion_cues import pair_cues
from ..ops.motion import warp
from .drawing import draw_box
from .overlays import Overlay, to_pixels

__all__ = ['FieldOverlay', 'FrameOverlay', 'ResidualOverlay', 'motion_overlays',
           'residuals', 'token_fields', 'wheel_colors']

LARGEST = 99  # percentile of the clip at which colours end
_KEY, _DISC = 1.2, 0.74  # inches: of the key, and its colour wheel
_NICE = (1, 1.5, 2, 3, 4, 6, 8)


def wheel_colors(field: np.ndarray, scale: float) -> np.ndarray:
    """Displacement in colour: hue is its direction, saturation its length.

    To the right is red, down yellow-green, to the left cyan, up violet; white is none.

    Args:
        field: (2, ...), to the right and down.
        scale: The length from which on colours are full.

    Returns:
        (..., 3) float, 0 to 1.
    """
    hue = np.arctan2(field[1], field[0]) / (2 * np.pi) % 1
    saturation = np.clip(np.hypot(*field) / scale, 0, 1)
    return matplotlib.colors.hsv_to_rgb(
        np.stack((hue, saturation, np.ones_like(hue)), -1))


def token_fields(imgs: Tensor, motion: Tensor, token_frames: int) -> Tensor:
    """Displacement from each token frame to the one before, as the models chain it.

    Args:
        imgs: (3, F, H, W).
        motion: (2, F, h, w) in pixels, from each sampled frame to the one before.
        token_frames: T, a divisor of F.

    Returns:
        (T, 2, h, w) in pixels, zero for the first.

    Raises:
        ValueError: If sizes do not fit.
    """
    if len(motion) != 2:
        raise ValueError(f'motion has {len(motion)} channels: displacements have 2')
    if imgs.shape[1] % token_frames:
        raise ValueError(f'{imgs.shape[1]} sampled frames do not make {token_frames} '
                         'token frames')
    step, cell = imgs.shape[1] // token_frames, imgs.shape[-1] // motion.shape[-1]
    fields = motion.new_zeros(token_frames, *motion[:, 0].shape, dtype=torch.float32)
    if token_frames > 1:
        # Clips of two token frames each, of which the field from the second is taken.
        pairs = [torch.stack([part[:, start:start + 2 * step]
                              for start in range(0, part.shape[1] - step, step)])
                 for part in (imgs, motion)]
        fields[1:] = pair_cues('motion', *pairs, 2, 1, cell, 1.0)[:, 0, 1, 0]
    return fields


def residuals(images: np.ndarray, fields: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Images less their prediction from the image before, with motion and without.

    Args:
        images: (T, H, W, 3) uint8.
        fields: (T, 2, h, w) in pixels, from each image to the one before.

    Returns:
        Twice (T, H, W, 3) float32 of -255 to 255, zero for the first image.
    """
    frames = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
    pixels = F.interpolate(fields[1:].float().cpu(), frames.shape[-2:], mode='nearest')
    results = []
    for predicted in (warp(frames[:-1], pixels), frames[:-1]):
        residual = torch.zeros_like(frames)
        residual[1:] = frames[1:] - predicted
        results.append(residual.permute(0, 2, 3, 1).numpy())
    return tuple(results)


@dataclass(frozen=True, eq=False)
class FrameOverlay(Overlay):
    """Nothing: the frames as they are.

    Attributes:
        num_frames: T.
        title: Written above.
    """
    num_frames: int
    title: str = ''

    def paint(self, image: np.ndarray, t: int) -> np.ndarray:
        return image / 255

    def legend(self) -> list[Patch]:
        return []


@dataclass(frozen=True, eq=False)
class FieldOverlay(Overlay):
    """Displacement to the token frame before, in colour; the image is covered.

    Attributes:
        fields: (T, 2, h, w) in pixels; the first token frame has none.
        title: Written above.
        name: Written below the moving picture.
    """
    fields: np.ndarray
    title: str = ''
    name: str = 'motion to the token frame before'
    key_height = _KEY

    @property
    def num_frames(self) -> int:
        return len(self.fields)

    @cached_property
    def scale(self) -> float:
        """Pixels at which colours are full, a round number above nearly all."""
        lengths = np.hypot(self.fields[1:, 0], self.fields[1:, 1])
        return _nice(np.percentile(lengths, LARGEST) if lengths.size else 0)

    def paint(self, image: np.ndarray, t: int) -> np.ndarray:
        colors = wheel_colors(self.fields[t], self.scale)
        return to_pixels(colors, image.shape[:2])

    def outline(self, ax: Axes, t: int, height: int, width: int) -> None:
        _border(ax, t, height, width)

    def legend(self) -> list[Patch]:
        return []

    def draw_key(self, ax: Axes) -> None:
        reach = np.linspace(-1, 1, 161)
        x, y = np.meshgrid(reach, reach)
        disc = np.dstack((wheel_colors(np.stack((x, y)) * self.scale, self.scale),
                          np.hypot(x, y) <= 1))
        middle, half = (0.75, _KEY / 2), _DISC / 2
        ax.imshow(disc, extent=(middle[0] - half, middle[0] + half, middle[1] + half,
                                middle[1] - half), aspect='auto', origin='upper')
        style = dict(fontsize=9, ha='center', va='center')
        ax.text(middle[0], middle[1] + half + 0.09, 'down', **style)
        ax.text(middle[0], middle[1] - half - 0.11, 'up', **style)
        ax.text(middle[0] - half - 0.05, middle[1], 'left', **{**style, 'ha': 'right'})
        ax.text(middle[0] + half + 0.05, middle[1], 'right', **{**style, 'ha': 'left'})
        ax.text(1.7, middle[1], 'Colour of a place: where its content\n'
                'lay one token frame before.\n'
                'Hue: direction. Saturation: distance,\n'
                f'full from {self.scale:g} px on. White: unmoved.',
                fontsize=9, va='center', linespacing=1.35)


@dataclass(frozen=True, eq=False)
class ResidualOverlay(Overlay):
    """What motion compensation does not predict; the image is covered.

    Attributes:
        residual: (T, H, W, 3), -255 to 255; the first token frame has none.
        title: Written above.
        name: Written below the moving picture.
    """
    residual: np.ndarray
    title: str = ''
    name: str = 'what that motion does not predict'

    @property
    def num_frames(self) -> int:
        return len(self.residual)

    @cached_property
    def scale(self) -> float:
        """Levels at which colours are full, a round number above nearly all."""
        levels = np.abs(self.residual[1:])
        return max(10, _nice(np.percentile(levels, LARGEST) if levels.size else 0))

    def paint(self, image: np.ndarray, t: int) -> np.ndarray:
        return np.clip(0.5 + self.residual[t] / (2 * self.scale), 0, 1)

    def outline(self, ax: Axes, t: int, height: int, width: int) -> None:
        _border(ax, t, height, width)

    def legend(self) -> list[Patch]:
        return [Patch(facecolor=str(level), edgecolor='0.6', label=label)
                for level, label in (
                    (0.5, 'as predicted'), (1., f'brighter by {self.scale:g} of 255'),
                    (0., f'darker by {self.scale:g}'))]


def motion_overlays(imgs: Tensor, motion: Tensor, images: np.ndarray) -> list[Overlay]:
    """Frames, fields and residuals of a clip.

    Args:
        imgs: (3, F, H, W), the sampled frames.
        motion: (2, F, h, w) in pixels, from each sampled frame to the one before.
        images: (T, H, W, 3) uint8 RGB, one image a token frame.

    Raises:
        ValueError: If sizes do not fit.
    """
    count = len(images)
    fields = token_fields(imgs, motion, count)
    rest, still = residuals(images, fields)
    with_motion, without = (float(np.abs(part[1:]).mean()) if count > 1 else 0.
                            for part in (rest, still))
    lengths = fields[1:].norm(dim=1)
    moved = ('no motion' if not lengths.any() else
             f'mean {lengths.mean():.1f} px, largest {lengths.max():.0f} px')
    return [
        FrameOverlay(count, 'Token frames'),
        FieldOverlay(fields.numpy(), 'Displacement to the token frame before, '
                     f'{motion.shape[-2]} x {motion.shape[-1]} cells: {moved}'),
        ResidualOverlay(rest, 'Residual: frame less its prediction by that motion, '
                        f'mean {with_motion:.1f} of 255 ({without:.1f} without motion)')
    ]


def _border(ax: Axes, t: int, height: int, width: int) -> None:
    draw_box(ax, (0, 0, 1, 1), height, width, edgecolor='0.6', linewidth=0.8)
    if t == 0:
        ax.text(0.5, 0.5, 'no frame before', transform=ax.transAxes, fontsize=9,
                ha='center', va='center', color='0.35',
                bbox=dict(facecolor='white', edgecolor='none', alpha=0.8))


def _nice(value: float) -> float:
    """The first of 1, 1.5, 2, 3, 4, 6, 8, 10, 15, ... that is not below."""
    scale = 1
    while True:
        for digit in _NICE:
            if digit * scale >= value:
                return digit * scale
        scale *= 10
