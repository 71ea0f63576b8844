# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What hands a host fewer tokens and keeps its grid rectangular (STTS, Sec. 3.3).

Grid reducers: ``(x, thw) -> (x, thw)``, x of shape (B, E + T*H*W, C). What they
decide is the output of their child ``choose`` (see ``strategies.py``).

Legend: B batch, E extra tokens (CLS), T H W grid, C channels, R sequences of which each
is ranked by itself, L candidates in a sequence, K kept of them.
"""
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..ops.grid import Places, Size3
from .score_net import SCORE_NETS, min_max_normalize
from .strategies import STRATEGIES, Choice

__all__ = ['Carried', 'GridReducer', 'SelectionError']


class SelectionError(ValueError):
    """A selection that leaves nothing of a grid or does not fit it.

    It shows only when the grid is known, in the first forward pass.
    """


class Carried(NamedTuple):
    """What travels with the tokens of a grid, for hosts and strategies that need it.

    Attributes:
        places: Where the tokens stand in the full grid.
        cls_attention: (B, T*H*W), attention of the class token to each of them.
        positions: (B, T*H*W, C), position embedding of each of them.
    """
    places: Places | None = None
    cls_attention: Tensor | None = None
    positions: Tensor | None = None


class GridReducer(nn.Module):
    """Base of the grid reducers: scores candidates, lets a strategy choose, applies.

    Subclasses say what the candidates are, how they are scored, and what a choice does
    to tokens and places. ``rank`` orders reducers that act at the same place of a host,
    lowest first.

    Args:
        in_channels: Width of what the score network sees.
        keep: Share that is kept, in (0, 1].
        strategy: A key of :data:`STRATEGIES`.
        unserved: Strategies that cannot serve here, and why.
        score_net: A key of :data:`SCORE_NETS`.
        scoring: Further options of scoring, each with its default; strategies that
            learn no scores refuse others.
        strategy_cfg: Arguments of the strategy.

    Raises:
        ValueError: If an argument is not allowed.
    """
    rank = 0

    def __init__(self, in_channels: int, keep: float, strategy: str,
                 unserved: dict[str, str], score_net: str,
                 scoring: dict[str, tuple[str, str]],
                 strategy_cfg: dict | None) -> None:
        super().__init__()
        name = type(self).__name__
        if isinstance(keep, bool) or not isinstance(keep, int | float):
            raise ValueError(f'{name}: keep={keep!r}: must be a number in (0, 1]')
        if not 0 < keep <= 1:
            raise ValueError(f'{name}: keep={keep} is outside (0, 1]')
        served = [key for key in STRATEGIES if key not in unserved]
        if strategy not in served:
            why = unserved.get(strategy) if isinstance(strategy, str) else None
            why = f' ({why})' if why else ''
            allowed = ', '.join(served)
            raise ValueError(f'{name}: strategy={strategy!r}{why}: allowed are '
                             f'{allowed}')
        if score_net not in SCORE_NETS:
            raise ValueError(f'{name}: score_net={score_net!r}: allowed are '
                             f'{", ".join(SCORE_NETS)}')
        self.keep = keep
        kind = STRATEGIES[strategy]
        if kind.ranks_by != 'score_net':
            for option, (value, default) in dict(
                    scoring, score_net=(score_net, 'released')).items():
                if value != default:
                    raise ValueError(f'{name}: {option}={value!r} has no use with '
                                     f'strategy={strategy!r}, which learns no scores: '
                                     'leave it out')
        try:
            self.choose = kind(**(strategy_cfg or {}))
        except TypeError as error:
            raise ValueError(f'{name}: strategy_cfg={strategy_cfg} does not fit '
                             f'strategy={strategy!r} ({error})') from error
        # Nothing to score at keep=1 or where the choice does not look: no parameters
        # then that would stay without a gradient.
        scored = kind.ranks_by == 'score_net' and keep != 1
        self.score_net = SCORE_NETS[score_net](in_channels) if scored else None

    @property
    def needs_cls_attention(self) -> bool:
        """Whether the block before must hand over its class token's attention."""
        return self.choose.ranks_by == 'cls_attention' and self.keep != 1

    def count(self, batch: int, thw: Size3) -> tuple[int, int, int]:
        """Sequences R, candidates L in each and K kept of them on this grid.

        Raises:
            SelectionError: If nothing would be left, or the grid is too small.
        """
        raise NotImplementedError  # abstract

    def score_tokens(self, x: Tensor, thw: Size3) -> Tensor:
        """Raw scores (R, L) of the candidates by the score network."""
        raise NotImplementedError  # abstract

    def score_attention(self, cls_attention: Tensor, thw: Size3) -> Tensor:
        """Raw scores (R, L) from the class token's attention (B, T*H*W)."""
        raise NotImplementedError  # abstract

    def reduce(self, x: Tensor, thw: Size3, choice: Choice) -> tuple[Tensor, Size3]:
        """Tokens and grid after ``choice``."""
        raise NotImplementedError  # abstract

    def move(self, places: Places, thw: Size3, choice: Choice) -> Places:
        """Places after ``choice``."""
        raise NotImplementedError  # abstract

    def decide(self, x: Tensor, thw: Size3,
               cls_attention: Tensor | None = None) -> Choice | None:
        """The choice on these tokens; None where everything is kept.

        Raises:
            SelectionError: If nothing would be left of the grid, or the class token's
                attention is needed and not given.
        """
        rows, length, num_kept = self.count(len(x), thw)
        if num_kept == length:
            return None
        ranks_by = self.choose.ranks_by
        if ranks_by is None:  # shape and device alone matter
            return self.choose(torch.zeros(rows, length, device=x.device), num_kept)
        if ranks_by == 'score_net':
            scores = self.score_tokens(x, thw)
        elif cls_attention is None:
            raise SelectionError(f"{type(self).__name__}: strategy='cls_attention' "
                                 'needs the attention of a class token, which the '
                                 'host did not hand over')
        else:
            scores = self.score_attention(cls_attention, thw)
        scores = scores.float()
        if self.choose.normalized:
            scores = min_max_normalize(scores)
        return self.choose(scores, num_kept)

    def forward(self, x: Tensor, thw: Size3, carried: Carried | None = None):
        """Reduce a grid of tokens.

        Args:
            x: (B, E + T*H*W, C).
            thw: The grid (T, H, W).
            carried: What travels with the tokens, for hosts that need it.

        Returns:
            ``(x, thw)``, or ``(x, thw, carried)`` where ``carried`` was given.

        Raises:
            SelectionError: If nothing would be left of the grid.
        """
        attention = None if carried is None else carried.cls_attention
        choice = self.decide(x, thw, attention)
        if choice is not None:
            if carried is not None:
                carried = self._carry(carried, thw, choice)
            x, thw = self.reduce(x, thw, choice)
        return (x, thw) if carried is None else (x, thw, carried)

    def _carry(self, carried: Carried, thw: Size3, choice: Choice) -> Carried:
        places, attention, positions = carried
        if places is not None:
            places = self.move(places, thw, choice)
        if attention is not None:
            attention, _ = self.reduce(attention.unsqueeze(-1), thw, choice)
            attention = attention.squeeze(-1)
        if positions is not None:
            positions, _ = self.reduce(positions, thw, choice)
        return Carried(places, attention, positions)
