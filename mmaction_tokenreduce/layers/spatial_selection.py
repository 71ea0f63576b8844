# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Keeping the best region of each frame (STTS, Sec. 3.3, spatial selection; Table 6).

On purpose unlike the release: a region's size follows from the grid that is there
now, not from one computed ahead, and grids need not be square.

Legend: B batch, T H W grid, C channels, G anchors of h x w places in a frame.
"""
from typing import Literal

from torch import Tensor

from ..ops.grid import (
    AnchorGrid,
    Places,
    Size3,
    anchor_features,
    anchor_grid,
    anchor_scores,
    anchor_size,
    keep_regions,
    keep_tokens,
    mix_regions,
    mix_tokens,
    split_extra,
)
from .grid_reducer import GridReducer, SelectionError
from .strategies import Choice

__all__ = ['SpatialSelection']

_UNSERVED = {
    'uniform': 'regions of a frame have no uniform choice',
    'gumbel': 'it draws frames; N/A for regions in Table 1 of STTS',
}


class SpatialSelection(GridReducer):
    """Keep one rectangular region of each frame, the best of a grid of anchors.

    Token scores are averaged inside each anchor, min-max normalised over the anchors,
    and the best one is kept (Sec. 3.3, spatial selection). The ablations of Table 6
    are options: features averaged inside each anchor before they are scored
    (``score='anchor'``), and no anchors at all (``unit='token'``).

    Args:
        in_channels: C; a host fills it in.
        keep: Share of a frame's places, in (0, 1]; the anchor is the largest of the
            grid's proportions with at most int(H*W*keep) places.
        anchor: Instead of ``keep``: the anchor's (height, width) in places, or one
            number for a square. One of the grid's size keeps everything and leaves
            the score network without a gradient: drop the selector then.
        strategy: ``'perturbed_topk'`` (learned), or a baseline of Table 1:
            ``'random'``, ``'cls_attention'``.
        unit: What is kept of a frame: one ``'anchor'`` of h x w places, or its best
            h*w places, each a ``'token'`` by itself, packed in their order into a grid
            of h x w. The second tears neighbours apart; hosts with relative positions
            refuse it.
        score: What is scored: each ``'token'``, or the mean feature of an
            ``'anchor'``.
        score_net: See :class:`TemporalSelection`.
        strategy_cfg: Arguments of the strategy, e.g. ``dict(sigma=0.1)``.

    Raises:
        ValueError: If an argument is not allowed, or both or none of ``keep`` and
            ``anchor`` are given.
    """
    rank = 1

    def __init__(self,
                 in_channels: int,
                 keep: float | None = None,
                 anchor: int | tuple[int, int] | None = None,
                 strategy: Literal['perturbed_topk', 'random',
                                   'cls_attention'] = 'perturbed_topk',
                 unit: Literal['anchor', 'token'] = 'anchor',
                 score: Literal['token', 'anchor'] = 'token',
                 score_net: Literal['released', 'paper'] = 'released',
                 strategy_cfg: dict | None = None) -> None:
        if (keep is None) == (anchor is None):
            raise ValueError('SpatialSelection: give either keep or anchor, got '
                             f'keep={keep}, anchor={anchor}')
        for name, value in (('unit', unit), ('score', score)):
            if value not in ('anchor', 'token'):
                raise ValueError(f'SpatialSelection: {name}={value!r}: allowed are '
                                 'anchor, token')
        if unit == 'token' and score == 'anchor':
            raise ValueError("SpatialSelection: score='anchor' needs unit='anchor': "
                             'single tokens have no anchor to be averaged in')
        size = (anchor, anchor) if type(anchor) is int else anchor
        sides = size if isinstance(size, tuple | list) else ()
        if size is not None and not (len(sides) == 2 and all(
                type(side) is int and side > 0 for side in sides)):
            raise ValueError(f'SpatialSelection: anchor={anchor}: must be one or two '
                             'numbers of places, at least 1')
        # An anchor is below the grid's size in general: a share like any but 1.
        super().__init__(in_channels, 0.5 if keep is None else keep, strategy,
                         _UNSERVED, score_net, dict(score=(score, 'token')),
                         strategy_cfg)
        self.keep, self.anchor = keep, None if size is None else tuple(size)
        self.unit, self.score = unit, score

    def kept_size(self, hw: tuple[int, int]) -> tuple[int, int]:
        """What is left of a frame of H x W places.

        Raises:
            SelectionError: If that is nothing, or more than there is.
        """
        return self.anchors(hw).size

    def anchors(self, hw: tuple[int, int]) -> AnchorGrid:
        """The anchors on a frame of H x W places.

        Raises:
            SelectionError: If the anchor is empty or larger than the grid.
        """
        size = anchor_size(hw, self.keep) if self.anchor is None else self.anchor
        try:
            return anchor_grid(hw, tuple(size))
        except ValueError as error:
            given = (f'keep={self.keep}' if self.anchor is None
                     else f'anchor={self.anchor}')
            raise SelectionError(f'SpatialSelection: {given}: {error}') from error

    def count(self, batch: int, thw: Size3) -> tuple[int, int, int]:
        t, height, width = thw
        grid = self.anchors((height, width))
        if self.unit == 'token':
            return batch * t, height * width, grid.size[0] * grid.size[1]
        return batch * t, grid.counts[0] * grid.counts[1], 1

    def score_tokens(self, x: Tensor, thw: Size3) -> Tensor:
        frames = split_extra(x, thw)[1].flatten(0, 1)  # (B*T, H*W, C)
        if self.score == 'anchor':
            return self.score_net(
                anchor_features(frames, thw[1:], self.anchors(thw[1:])))
        return self._score_units(self.score_net(frames), thw)

    def score_attention(self, cls_attention: Tensor, thw: Size3) -> Tensor:
        return self._score_units(cls_attention.reshape(-1, thw[1] * thw[2]), thw)

    def _score_units(self, tokens: Tensor, thw: Size3) -> Tensor:
        """Token scores (B*T, H*W) to scores of what is chosen among."""
        if self.unit == 'token':
            return tokens
        return anchor_scores(tokens.float(), thw[1:], self.anchors(thw[1:]))

    def reduce(self, x: Tensor, thw: Size3, choice: Choice) -> tuple[Tensor, Size3]:
        t, *hw = thw
        grid = self.anchors(tuple(hw))
        soft = choice.weight is not None
        if self.unit == 'token':
            x = (mix_tokens(x, thw, choice.weight) if soft
                 else keep_tokens(x, thw, choice.index))
        elif soft:
            x = mix_regions(x, thw, choice.weight.view(len(x), t, -1), grid)
        else:
            x = keep_regions(x, thw, choice.index.view(-1, t), grid)
        return x, (t, *grid.size)

    def move(self, places: Places, thw: Size3, choice: Choice) -> Places:
        if self.unit == 'token':
            raise SelectionError("SpatialSelection: unit='token' leaves no rows or "
                                 'columns, which a host with relative positions needs')
        t, *hw = thw
        top, left = self.anchors(tuple(hw)).corner(choice.index.view(-1, t))
        return places.shift(top, left)

    def extra_repr(self) -> str:
        size = f'keep={self.keep}' if self.anchor is None else f'anchor={self.anchor}'
        return f'{size}, unit={self.unit!r}, score={self.score!r}'
