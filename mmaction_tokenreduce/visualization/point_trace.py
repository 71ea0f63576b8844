# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Where the queries of deformable attention look, seen through hooks (DVT, Fig. 2).

Legend: B batch, T token frames, Q queries of a frame, n heads, N points, P frames of a
sub-clip, L = P (D-ST-A) or 2 feature maps (D-MS-A).
"""
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.deformable_attention import (
    DeformableAttention,
    MultiScaleAttention,
    SpaceTimeAttention,
)
from .token_steps import patch_projection
from .watch import DecisionWatch

__all__ = ['MAPS', 'MULTI_SCALE', 'SPACE_TIME', 'PointTrace', 'SampledPoints',
           'moving_place']

SPACE_TIME, MULTI_SCALE = 'D-ST-A', 'D-MS-A'
MAPS = 'own', 'convolved'  # maps of D-MS-A
_WINDOW = 8  # a frame's side in windows over which motion is averaged
_NEARLY = 0.9


@dataclass(frozen=True, eq=False)
class SampledPoints:
    """The points of one query in one attention; all places in pixels of the view.

    Attributes:
        kind: ``'D-ST-A'`` or ``'D-MS-A'``.
        frame: Token frame of the query.
        query: (2, ), x and y of the centre of its patch.
        patch: Height and width of its patch.
        frames: (L, ), the token frame that each map belongs to: those of the sub-clip,
            or the query's own.
        cells: (L, ) height and width of a cell of each map.
        xy: (n, L, N, 2), where it samples.
        weight: (n, L, N); those of a head sum to 1.
        outside: (n, L, N), whether a point is so far outside of its map that it reads
            nothing but zeros.
    """
    kind: str
    frame: int
    query: np.ndarray
    patch: tuple[int, int]
    frames: tuple[int, ...]
    cells: tuple[tuple[int, int], ...]
    xy: np.ndarray
    weight: np.ndarray
    outside: np.ndarray

    @property
    def equal_share(self) -> float:
        """What each weight is where all are alike, 1 / (L N)."""
        return 1 / (self.weight.shape[1] * self.weight.shape[2])

    @property
    def shares(self) -> np.ndarray:
        """(L, ) of each map in the sum, mean over heads; they sum to 1."""
        return self.weight.sum(2).mean(0)

    @property
    def offsets(self) -> np.ndarray:
        """(L, 2), mean offset in x and y from the query by weight, mean over heads."""
        offset = (self.xy - self.query) * self.weight[..., None]
        return (offset.sum(2) / self.weight.sum(2)[..., None]).mean(0)

    def head(self, number: int) -> 'SampledPoints':
        """Those of one head.

        Raises:
            ValueError: If there is no such head.
        """
        count = len(self.weight)
        if not 0 <= number < count:
            raise ValueError(f'head {number}: {self.kind} has {count} heads here, 0 to '
                             f'{count - 1}')
        part = slice(number, number + 1)
        return SampledPoints(self.kind, self.frame, self.query, self.patch, self.frames,
                             self.cells, self.xy[part], self.weight[part],
                             self.outside[part])


class PointTrace(DecisionWatch):
    """Records which points the blocks of a deformable host sample while it runs.

    ::

        with PointTrace(model) as trace:
            model(imgs, motion)
        trace.points(block=0, sample=0, frame=4, place=(112, 112))

    Args:
        model: Holds a ``DVTMViT`` or ``DVTTimeSformer``.
        blocks: The blocks that are watched; all unless given.

    Raises:
        ValueError: If it holds none, or has no such block.
    """

    def __init__(self, model: nn.Module, blocks: Sequence[int] | None = None) -> None:
        attentions = [m for m in model.modules() if isinstance(m, DeformableAttention)]
        self.num_blocks = len(attentions)
        if not attentions:
            raise ValueError(f'{type(model).__name__} holds no deformable attention to '
                             'watch: allowed are the backbones DVTMViT and '
                             'DVTTimeSformer')
        self.blocks = list(range(self.num_blocks)) if blocks is None else list(blocks)
        for block in self.blocks:
            if not 0 <= block < self.num_blocks:
                raise ValueError(f'block {block}: the model has {self.num_blocks} '
                                 f'blocks, 0 to {self.num_blocks - 1}')
        self._parts = {block: [part for part in (attentions[block].space_time,
                                                 attentions[block].multi_scale)
                               if part is not None] for block in self.blocks}
        self._projection = patch_projection(model)
        self._strides = _strides(attentions)
        super().__init__([part for parts in self._parts.values() for part in parts])

    def _see_call(self, module: nn.Module, args: tuple, output: Tensor) -> None:
        x, query, base = args[:3]
        self._seen.append((module, tuple(x.shape[1:4]), base, self._decision))
        self._decision = None

    @property
    def num_frames(self) -> int:
        """Token frames of the clips.

        Raises:
            ValueError: If the model was not run.
        """
        self._check()
        return self._seen[0][1][0]

    @property
    def sub_clip(self) -> int:
        """Token frames of a sub-clip, among which queries sample: 1 without D-ST-A.

        Raises:
            ValueError: If the model was not run.
        """
        self._check()
        return max(points.x.shape[4] if isinstance(module, SpaceTimeAttention) else 1
                   for module, _, _, points in self._seen)

    def points(self, block: int, sample: int, frame: int,
               place: tuple[float, float]) -> list[SampledPoints]:
        """The points of one query in one block.

        Args:
            block: One of those that are watched.
            sample: Number of the clip in the batch.
            frame: Token frame of the query.
            place: Row and column in pixels; the query whose centre is nearest is meant.

        Returns:
            Of D-ST-A, of D-MS-A, or both in this order.

        Raises:
            ValueError: If the model was not run, or run more than once, or there is no
                such block, clip or token frame.
        """
        self._check()
        if block not in self._parts:
            raise ValueError(f'block {block} was not watched')
        calls = {module: call for module, *call in self._seen}
        return [self._of_query(block, part, *calls[part], sample, frame, place)
                for part in self._parts[block]]

    def _check(self) -> None:
        calls = [call[0] for call in self._seen]
        if len(calls) != len(self._watched) or len(set(calls)) != len(calls):
            raise ValueError(f'{len(calls)} calls of {len(self._watched)} attentions '
                             'were recorded: run the model once, clear() in between')

    def _of_query(self, block: int, part: nn.Module, thw: tuple[int, int, int],
                  base: Tensor, points: Any, sample: int, frame: int,
                  place: tuple[float, float]) -> SampledPoints:
        if not 0 <= sample < len(points.x):
            raise ValueError(f'sample {sample}: the batch had {len(points.x)} clips')
        if not 0 <= frame < thw[0]:
            raise ValueError(f'token frame {frame}: the clip has {thw[0]}, 0 to '
                             f'{thw[0] - 1}')
        sampled, queried = self._strides[block]
        scales, size = self._scales(part, sampled, thw[1:])
        base = base[0] if base.dim() == 3 else base  # in cells of the first map
        centres = self._to_pixels(base.float().cpu(), scales[0])
        wanted = torch.tensor(place[::-1], dtype=centres.dtype)
        query = int((centres - wanted).square().sum(-1).argmin())
        xy = torch.stack([part[sample, frame, query] for part in points[:2]], -1)
        xy = xy.detach().float().cpu()  # (n, L, N, 2)
        low = torch.tensor(size).flip(-1).view(-1, 1, 2)  # (L, 1, 2), width and height
        outside = ((xy <= -1) | (xy >= low)).any(-1)
        maps = xy.shape[1]
        scales = scales * (maps // len(scales))
        places = torch.stack([self._to_pixels(xy[:, i], scale)
                              for i, scale in enumerate(scales)], dim=1)
        kind, frames = MULTI_SCALE, (frame, ) * maps
        if isinstance(part, SpaceTimeAttention):
            first = frame - frame % maps
            kind, frames = SPACE_TIME, tuple(range(first, first + maps))
        step = self._projection.stride[-2:]
        return SampledPoints(
            kind, frame, centres[query].numpy(),
            tuple(side * queried for side in step), frames,
            tuple(tuple(side * scale for side in step) for scale in scales),
            places.numpy(), points.weight[sample, frame, query].detach().float().cpu()
            .numpy(), outside.numpy())

    @staticmethod
    def _scales(part: nn.Module, sampled: int,
                hw: tuple[int, int]) -> tuple[list[int], list[tuple[int, int]]]:
        """Patches on a side of a cell of the attention's maps, and the maps' sizes."""
        if isinstance(part, MultiScaleAttention):
            return ([sampled, sampled * part.stride],
                    [hw, tuple(-(-side // part.stride) for side in hw)])
        return [sampled], [hw]

    def _to_pixels(self, xy: Tensor, scale: int) -> Tensor:
        """Places in cells of ``scale`` patches, as x and y in pixels.

        Pixels have their centres at whole numbers. Pools and strided convolutions
        centre place j of what they make on place ``stride * j`` of what they read.
        """
        sides = [(self._projection.stride[i] * scale,
                  (self._projection.kernel_size[i] - 1) / 2
                  - self._projection.padding[i]) for i in (-1, -2)]
        step, first = torch.tensor(sides, dtype=xy.dtype).T
        return xy * step + first


def moving_place(field: Tensor, size: tuple[int, int]) -> tuple[int, int] | None:
    """The row and column, in pixels, that move most against the rest.

    The median is taken off, which is the camera's motion, and the field averaged over
    windows of an eighth of the frame: a few wild vectors do not win. The outer quarters
    of the frame are left out, as their queries see little but what is outside. Of
    places that move nearly as much as the first the one in their middle is taken, not
    the edge of what moves.

    Args:
        field: (2, h, w), displacement.
        size: Height and width of the frame in pixels.

    Returns:
        The middle of a window; None where nothing moves.
    """
    field = field.float()
    field = field - field.flatten(1).median(1).values.view(2, 1, 1)
    window = [max(1, side // _WINDOW) for side in field.shape[1:]]
    length = F.avg_pool2d(field[None], window, 1)[0].norm(dim=0)
    skipped = [side // 4 for side in length.shape]
    length = length[skipped[0]:length.shape[0] - skipped[0],
                    skipped[1]:length.shape[1] - skipped[1]]
    if not length.any():
        return None
    among = (length >= _NEARLY * length.max()).nonzero()
    middle = (among - among.float().mean(0)).square().sum(1).argmin()
    place = among[middle].tolist()
    return tuple(int((skip + first + side / 2) * pixels / count)
                 for skip, first, side, pixels, count in zip(
                     skipped, place, window, size, field.shape[1:], strict=True))


def _strides(attentions: Sequence[DeformableAttention]) -> list[tuple[int, int]]:
    """Of each block: patches on a side of a cell that is sampled, and of a query."""
    strides, cell = [], 1
    for attention in attentions:
        pool = getattr(attention, 'pool_q', None)  # of hosts with stages
        query = cell if pool is None else cell * pool.stride[-1]
        strides.append((cell, query))
        cell = query
    return strides
