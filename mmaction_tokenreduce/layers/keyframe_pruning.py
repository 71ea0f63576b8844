# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Dropping the tokens of a clip that matter least to its keyframe (EVAD, Sec. 3.2).

A sequence reducer: N tokens in any order, each with its place, to K. The keyframe is
the token frame T // 2; its tokens stay, unless pruning is unified (Table 1c). What is
decided is the output of the child ``choose``, a :class:`Pruning`, so that a standard
forward hook sees every pruning of a model; nothing is kept between calls.

On purpose otherwise than the paper: random pruning (Table 1b) is the same for every
clip in evaluation, so that results repeat.

Legend: B batch, T H W grid of the clip, N tokens now, K kept and D dropped of them, C
channels.
"""
from math import inf
from numbers import Real
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from ..ops.grid import Size3
from ..ops.pruning import is_keyframe, kept_count, rank_order, take_tokens
from ..ops.topk import scrambled_order
from .grid_reducer import SelectionError

__all__ = ['PRUNING_STRATEGIES', 'KeyframePruning', 'Pruned', 'Pruning']


class Pruning(NamedTuple):
    """Which tokens are kept.

    Attributes:
        index: (B, K) int64 into the sequence, in the order in which they stand from
            here on: those of the keyframe as they stood, then the others by descending
            importance. In unified pruning all stand by descending importance.
        dropped: (B, D) int64, the others, by descending importance.
        importance: (B, N) that was ranked.
    """
    index: Tensor
    dropped: Tensor
    importance: Tensor


class Pruned(NamedTuple):
    """What came of a pruning beside the tokens that are left.

    Attributes:
        index: See :class:`Pruning`.
        places: (B, K), of the tokens that are left.
        dropped: (B, D, C), the tokens that are not.
        dropped_places: (B, D).
    """
    index: Tensor
    places: Tensor
    dropped: Tensor
    dropped_places: Tensor


class MostImportant(nn.Module):
    """Keeps the tokens that receive most attention (eq. 1); never learned."""
    needs_attention = True

    def forward(self, importance: Tensor, num_kept: int, fixed: Tensor | None = None,
                valid: Tensor | None = None) -> Pruning:
        """Decide.

        Args:
            importance: (B, N).
            num_kept: K, fixed tokens included.
            fixed: (B, N) bool, tokens that stay in any case.
            valid: (B, N) bool, False for padding, which goes first.
        """
        order = rank_order(importance, fixed, valid)
        return Pruning(order[:, :num_kept], order[:, num_kept:], importance)


class RandomTokens(MostImportant):
    """Keeps tokens at random (Table 1b).

    In evaluation the draw is fixed and the same for every clip.
    """
    needs_attention = False

    def forward(self, importance: Tensor, num_kept: int, fixed: Tensor | None = None,
                valid: Tensor | None = None) -> Pruning:
        """As :class:`MostImportant`; of ``importance`` shape and device matter."""
        batch, length = importance.shape
        if self.training:
            drawn = torch.rand(batch, length, device=importance.device)
        else:
            drawn = scrambled_order(length, importance.device).float()
            drawn = drawn.expand(batch, -1)
        return super().forward(drawn, num_kept, fixed, valid)


PRUNING_STRATEGIES = {'attention': MostImportant, 'random': RandomTokens}


class KeyframePruning(nn.Module):
    """Keyframe-centric token pruning: of N tokens ceil(keep N) are left.

    All tokens of the keyframe stay, and of the others the ceil(keep N) - H W most
    important ones. ``keep=1`` is the identity. There are no parameters.

    Random masking (Table 1b) acts once, before the first block. Its 158.9 GFLOPs are
    those of 1162 of 1568 tokens, 0.7 of each other frame rounded up: ``keep=0.741``.
    Here they are drawn from all other frames together.

    Args:
        keep: Share of the tokens now present that is kept, in (0, 1].
        keyframe_weight: w_kf of eq. 1, by which the attention of the keyframe's queries
            counts more than that of others.
        strategy: A key of :data:`PRUNING_STRATEGIES`.
        unified: Whether tokens of the keyframe are ranked as all others (Table 1c).

    Raises:
        ValueError: If an argument is not allowed.
    """

    rank = 2  # at one place of a host it follows selection

    def __init__(self,
                 keep: float = 0.7,
                 keyframe_weight: float = 1.0,
                 strategy: Literal['attention', 'random'] = 'attention',
                 unified: bool = False) -> None:
        super().__init__()
        name = type(self).__name__
        if isinstance(keep, bool) or not isinstance(keep, Real) or not 0 < keep <= 1:
            raise ValueError(f'{name}: keep={keep!r}: must be a number in (0, 1]')
        if isinstance(keyframe_weight, bool) or not (
                isinstance(keyframe_weight, Real) and 0 < keyframe_weight < inf):
            raise ValueError(f'{name}: keyframe_weight={keyframe_weight!r}: must be a '
                             'finite number above 0')
        if strategy not in PRUNING_STRATEGIES:
            raise ValueError(f'{name}: strategy={strategy!r}: allowed are '
                             f'{", ".join(PRUNING_STRATEGIES)}')
        if not isinstance(unified, bool):
            raise ValueError(f'{name}: unified={unified!r}: allowed are True, False')
        self.choose = PRUNING_STRATEGIES[strategy]()
        if keyframe_weight != 1 and not self.choose.needs_attention:
            raise ValueError(f'{name}: keyframe_weight={keyframe_weight} has no use '
                             f'with strategy={strategy!r}: leave it out')
        self.keep, self.keyframe_weight = keep, keyframe_weight
        self.strategy, self.unified = strategy, unified

    @property
    def needs_attention(self) -> bool:
        """Whether :meth:`forward` must be given importance."""
        return self.choose.needs_attention and self.keep != 1

    def query_weight(self, places: Tensor, thw: Size3) -> Tensor | None:
        """How much the attention of each query counts, (B, N); None if all alike."""
        if self.keyframe_weight == 1:
            return None
        weight = torch.ones(places.shape, device=places.device)
        return weight.masked_fill(is_keyframe(places, thw), self.keyframe_weight)

    def count(self, length: int, thw: Size3) -> int:
        """K of ``length`` tokens, those of the keyframe included.

        Raises:
            SelectionError: If no token of another frame would be left.
        """
        count, own = kept_count(length, self.keep), thw[1] * thw[2]
        if not self.unified and count <= own:
            raise SelectionError(
                f'KeyframePruning: keep={self.keep} leaves {count} of {length} tokens, '
                f'and the keyframe alone has {own}: no token of another frame would be '
                'left; keep more, or prune fewer times')
        return count

    def forward(self, x: Tensor, places: Tensor, thw: Size3,
                importance: Tensor | None = None, valid: Tensor | None = None
                ) -> tuple[Tensor, Pruned | None]:
        """Drop tokens.

        Args:
            x: (B, N, C).
            places: (B, N) int64, the index of each token in the flattened, time-major
                grid.
            thw: The grid (T, H, W) that places index.
            importance: (B, N), the attention that each token receives, see
                :func:`mmaction_tokenreduce.ops.attention.received_attention`; needed by
                strategy ``'attention'``.
            valid: (B, N) bool, False for tokens of padding.

        Returns:
            The tokens that are left (B, K, C), and what else came of it; None if all
            are kept.

        Raises:
            ValueError: If importance is needed and missing, or shapes do not fit.
            SelectionError: If no token of another frame would be left.
        """
        if self.keep == 1:
            return x, None
        self._check(x, places, importance, valid)
        fixed = None if self.unified else is_keyframe(places, thw)
        if not self.choose.needs_attention:
            importance = torch.zeros(places.shape, device=x.device)
        choice = self.choose(importance, self.count(x.shape[1], thw), fixed, valid)
        pruned = Pruned(choice.index, places.gather(1, choice.index),
                        take_tokens(x, choice.dropped),
                        places.gather(1, choice.dropped))
        return take_tokens(x, choice.index), pruned

    def extra_repr(self) -> str:
        return (f'keep={self.keep}, keyframe_weight={self.keyframe_weight}, '
                f'strategy={self.strategy!r}, unified={self.unified}')

    def _check(self, x: Tensor, places: Tensor, importance: Tensor | None,
               valid: Tensor | None) -> None:
        if x.dim() != 3:
            raise ValueError('KeyframePruning: x must be (B, N, C), got shape '
                             f'{tuple(x.shape)}')
        if importance is None and self.choose.needs_attention:
            raise ValueError("KeyframePruning: strategy='attention' needs importance "
                             '(the attention that each token receives), none was given')
        for name, value in dict(places=places, importance=importance,
                                valid=valid).items():
            if value is not None and value.shape != x.shape[:2]:
                raise ValueError(f'KeyframePruning: {name} of shape '
                                 f'{tuple(value.shape)} does not fit tokens of shape '
                                 f'{tuple(x.shape)}')
