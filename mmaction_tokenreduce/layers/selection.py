# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Selecting frames and regions of a token grid (STTS, Sec. 3.3).

Grid reducers: ``(x, thw) -> (x, thw)``, x of shape (B, E + T*H*W, C). What they
decide is the output of their child ``choose`` (see ``strategies.py``).

On purpose unlike the release: a region's size follows from the grid that is there
now, not from one computed ahead, and grids need not be square.

Legend: B batch, T H W grid, C channels, K kept frames, G anchors of a frame.
"""
from typing import Literal

import torch
from torch import Tensor, nn

from ..ops.grid import (
    AnchorGrid,
    Places,
    Size3,
    anchor_grid,
    anchor_scores,
    anchor_size,
    keep_frames,
    keep_regions,
    mix_frames,
    mix_regions,
    split_extra,
)
from .score_net import SCORE_NETS, min_max_normalize
from .strategies import STRATEGIES, Choice

__all__ = ['GridReducer', 'SelectionError', 'SpatialSelection', 'TemporalSelection']

Strategy = Literal['perturbed_topk', 'random', 'uniform']


class SelectionError(ValueError):
    """A selection that leaves nothing of a grid or does not fit it.

    It shows only when the grid is known, in the first forward pass.
    """


class GridReducer(nn.Module):
    """Base of what hands a host fewer tokens and keeps its grid rectangular.

    Subclasses say how many places they keep, decide, and apply. ``rank`` orders
    reducers that act at the same place of a host, lowest first.
    """
    rank = 0

    def __init__(self, in_channels: int, keep: float, strategy: str,
                 strategies: tuple[str, ...], score_net: str,
                 strategy_cfg: dict | None) -> None:
        super().__init__()
        name = type(self).__name__
        if not 0 < keep <= 1:
            raise ValueError(f'{name}: keep={keep} is outside (0, 1]')
        if strategy not in strategies:
            raise ValueError(f'{name}: strategy={strategy!r}: allowed are '
                             f'{", ".join(strategies)}')
        if score_net not in SCORE_NETS:
            raise ValueError(f'{name}: score_net={score_net!r}: allowed are '
                             f'{", ".join(SCORE_NETS)}')
        self.keep = keep
        kind = STRATEGIES[strategy]
        try:
            self.choose = kind(**(strategy_cfg or {}))
        except TypeError as error:
            raise ValueError(f'{name}: strategy_cfg={strategy_cfg} does not fit '
                             f'strategy={strategy!r} ({error})') from error
        # Nothing to score at keep=1 or where the choice does not look: no parameters
        # then that would stay without a gradient.
        scored = kind.scored and keep != 1
        self.score_net = SCORE_NETS[score_net](in_channels) if scored else None

    def decide(self, x: Tensor, thw: Size3) -> Choice | None:
        """The choice on these tokens; None where everything is kept."""
        raise NotImplementedError  # abstract

    def reduce(self, x: Tensor, thw: Size3, choice: Choice) -> tuple[Tensor, Size3]:
        """Tokens and grid after ``choice``."""
        raise NotImplementedError  # abstract

    def move(self, places: Places, thw: Size3, choice: Choice) -> Places:
        """Places after ``choice``."""
        raise NotImplementedError  # abstract

    def forward(self, x: Tensor, thw: Size3, places: Places | None = None):
        """Reduce a grid of tokens.

        Args:
            x: (B, E + T*H*W, C).
            thw: The grid (T, H, W).
            places: Where its tokens stand in the full grid, for hosts that need it.

        Returns:
            ``(x, thw)``, or ``(x, thw, places)`` where places were given.

        Raises:
            SelectionError: If nothing would be left of the grid.
        """
        choice = self.decide(x, thw)
        if choice is not None:
            if places is not None:
                places = self.move(places, thw, choice)
            x, thw = self.reduce(x, thw, choice)
        return (x, thw) if places is None else (x, thw, places)


class TemporalSelection(GridReducer):
    """Keep int(T * keep) frames, in their order (Sec. 3.3, eq. 9).

    Args:
        in_channels: C; a host fills it in.
        keep: Share of the frames that is kept, in (0, 1].
        strategy: ``'perturbed_topk'`` (learned), ``'random'`` or ``'uniform'``.
        score_net: ``'released'`` (LayerNorm and four linear layers, as
            checkpoints need) or ``'paper'`` (eq. 2-3).
        frame_feature: What a frame is scored by: ``'mean_max'``, mean and maximum
            over its tokens side by side (released), or ``'mean'`` (the paper's text).
        strategy_cfg: Arguments of the strategy, e.g. ``dict(sigma=0.1)``.

    Raises:
        ValueError: If an argument is not allowed.
    """

    def __init__(self,
                 in_channels: int,
                 keep: float,
                 strategy: Strategy = 'perturbed_topk',
                 score_net: Literal['released', 'paper'] = 'released',
                 frame_feature: Literal['mean_max', 'mean'] = 'mean_max',
                 strategy_cfg: dict | None = None) -> None:
        if frame_feature not in ('mean_max', 'mean'):
            raise ValueError(f'TemporalSelection: frame_feature={frame_feature!r}: '
                             'allowed are mean_max, mean')
        width = in_channels * (2 if frame_feature == 'mean_max' else 1)
        super().__init__(width, keep, strategy,
                         ('perturbed_topk', 'random', 'uniform'), score_net,
                         strategy_cfg)
        self.frame_feature = frame_feature

    def decide(self, x: Tensor, thw: Size3) -> Choice | None:
        num_frames = thw[0]
        num_kept = int(num_frames * self.keep)
        if num_kept < 1:
            raise SelectionError(
                f'TemporalSelection: keep={self.keep} leaves none of {num_frames} '
                f'token frames: at least {1 / num_frames:.4g} is needed')
        if num_kept == num_frames:
            return None
        if self.score_net is None:
            return self.choose(_no_scores(x, len(x), num_frames), num_kept)
        _, frames = split_extra(x, thw)
        feature = frames.mean(dim=2)  # (B, T, C)
        if self.frame_feature == 'mean_max':
            feature = torch.cat((feature, frames.amax(dim=2)), dim=-1)
        scores = min_max_normalize(self.score_net(feature).float())
        return self.choose(scores, num_kept)

    def reduce(self, x: Tensor, thw: Size3, choice: Choice) -> tuple[Tensor, Size3]:
        if choice.weight is None:
            x = keep_frames(x, thw, choice.index)
        else:
            x = mix_frames(x, thw, choice.weight)
        return x, (choice.index.shape[1], *thw[1:])

    def move(self, places: Places, thw: Size3, choice: Choice) -> Places:
        return places.keep_frames(choice.index)

    def extra_repr(self) -> str:
        return f'keep={self.keep}, frame_feature={self.frame_feature!r}'


class SpatialSelection(GridReducer):
    """Keep one rectangular region of each frame, the best of a grid of anchors.

    Token scores are averaged inside each anchor, min-max normalised over the anchors,
    and the best one is kept (Sec. 3.3, spatial selection).

    Args:
        in_channels: C; a host fills it in.
        keep: Share of a frame's places, in (0, 1]; the anchor is the largest of the
            grid's proportions with at most int(H*W*keep) places.
        anchor: Instead of ``keep``: the anchor's (height, width) in places, or one
            number for a square. One of the grid's size keeps everything and leaves
            the score network without a gradient: drop the selector then.
        strategy: ``'perturbed_topk'`` (learned) or ``'random'``.
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
                 strategy: Strategy = 'perturbed_topk',
                 score_net: Literal['released', 'paper'] = 'released',
                 strategy_cfg: dict | None = None) -> None:
        if (keep is None) == (anchor is None):
            raise ValueError('SpatialSelection: give either keep or anchor, got '
                             f'keep={keep}, anchor={anchor}')
        size = (anchor, anchor) if isinstance(anchor, int) else anchor
        sides = size if isinstance(size, tuple | list) else ()
        if size is not None and not (len(sides) == 2 and all(
                isinstance(side, int) and side > 0 for side in sides)):
            raise ValueError(f'SpatialSelection: anchor={anchor}: must be one or two '
                             'numbers of places, at least 1')
        # An anchor is below the grid's size in general: a share like any but 1.
        super().__init__(in_channels, 0.5 if keep is None else keep, strategy,
                         ('perturbed_topk', 'random'), score_net, strategy_cfg)
        self.keep, self.anchor = keep, None if size is None else tuple(size)

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

    def decide(self, x: Tensor, thw: Size3) -> Choice | None:
        t, *hw = thw
        grid = self.anchors(tuple(hw))
        num_anchors = grid.counts[0] * grid.counts[1]
        if num_anchors == 1:  # the anchor is the frame
            return None
        if self.score_net is None:
            return self.choose(_no_scores(x, len(x) * t, num_anchors), 1)
        _, frames = split_extra(x, thw)
        tokens = self.score_net(frames.flatten(0, 1)).float()  # (B*T, H*W)
        scores = min_max_normalize(anchor_scores(tokens, tuple(hw), grid))
        return self.choose(scores, 1)

    def reduce(self, x: Tensor, thw: Size3, choice: Choice) -> tuple[Tensor, Size3]:
        t, *hw = thw
        grid = self.anchors(tuple(hw))
        if choice.weight is None:
            x = keep_regions(x, thw, choice.index.view(-1, t), grid)
        else:
            weight = choice.weight.view(len(x), t, -1)
            x = mix_regions(x, thw, weight, grid)
        return x, (t, *grid.size)

    def move(self, places: Places, thw: Size3, choice: Choice) -> Places:
        t, *hw = thw
        top, left = self.anchors(tuple(hw)).corner(choice.index.view(-1, t))
        return places.shift(top, left)

    def extra_repr(self) -> str:
        return f'keep={self.keep}' if self.anchor is None else f'anchor={self.anchor}'


def _no_scores(x: Tensor, rows: int, length: int) -> Tensor:
    """What a strategy that does not look is given: shape and device alone matter."""
    return torch.zeros(rows, length, device=x.device)
