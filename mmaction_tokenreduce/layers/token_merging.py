# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Merging tokens into fewer, with what their places say about motion (STTM, Sec. 3).

A sequence reducer: rows of tokens in, rows of fewer tokens out. What it decides is the
output of its child ``choose``, a :class:`Merge`, so that a standard forward hook sees
every merge of a model; nothing is kept between calls.

On purpose otherwise than the paper: in evaluation nothing is drawn at random, a
temperature divides both softmaxes (``ops/merging.py``), and two modules do not share
their parameters unless told to (its text says they do, its Table 6 counts them twice).

Legend: B clips of T frames, R rows that are merged each by itself (frames or clips), L
tokens in a row, L' of them after the merge, D channels.
"""
from math import ceil, inf
from numbers import Real
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from ..ops.merging import (
    Axes,
    bipartite_match,
    check_correspondence,
    correspondence,
    keep_attentive,
    merge,
)
from ..ops.orthogonal import orthogonal_select
from ..ops.topk import scrambled_order
from .grid_reducer import SelectionError

__all__ = ['MERGE_STRATEGIES', 'Merge', 'TokenMerging']

SCOPES = ('frame', 'clip')
INITS = ('random', 'identity')
# What bipartite matching has no use for, and the values that leave it out.
_LEARNED_ONLY = dict(alpha=1.5, filter=True, motion=True, temperature=0.1, axes='both',
                     init='random')
_SLACK = 1e-9  # 10 * (1 - 0.9) is 0.999... in floating point


class Merge(NamedTuple):
    """Which tokens become one.

    Attributes:
        index: (R, L') int64, ascending: the meta token, or in bipartite matching the
            token, that each output stems from.
        weight: (R, L', L) float32: how much of each input an output holds; rows sum to
            1. The transpose of the paper's C. It carries the gradient where learned.
    """
    index: Tensor
    weight: Tensor


class OrthogonalMerge(nn.Module):
    """Meta tokens that are as orthogonal as possible (eq. 3), soft weights (eq. 4).

    The first token is drawn at random in training, as in the paper. In evaluation it is
    the one of largest norm: results repeat, and depend neither on the order of the
    tokens nor on what else is in the batch.

    Args:
        alpha: Tokens picked for each that is kept; of no use without ``filter``.
        filter: Whether of ``alpha`` L' picked tokens the L' with the highest scores are
            kept; otherwise exactly L' are picked.
        temperature: See :func:`mmaction_tokenreduce.ops.correspondence`.
        axes: See there.

    Raises:
        ValueError: If an argument is not allowed.
    """

    def __init__(self, alpha: float = 1.5, filter: bool = True,
                 temperature: float = 0.1, axes: Axes = 'both') -> None:
        super().__init__()
        if not (isinstance(alpha, Real) and 1 <= alpha < inf):
            raise ValueError(f'alpha={alpha!r}: must be a finite number, at least 1')
        if not filter and alpha != _LEARNED_ONLY['alpha']:
            raise ValueError(f'filter=False has no alpha, got alpha={alpha!r}: leave '
                             'it out')
        check_correspondence(temperature, axes)
        self.alpha, self.filter = alpha, filter
        self.temperature, self.axes = temperature, axes

    def pick(self, x: Tensor, count: int) -> Tensor:
        """(R, count) candidates for meta tokens among x (R, L, D), distinct."""
        first = None
        if not self.training:
            # A token that holds NaN is picked last, as later on.
            first = x.float().norm(dim=-1).nan_to_num(nan=-1).argmax(dim=1)
        return orthogonal_select(x, count, first)

    def forward(self, x: Tensor, features: Tensor, scores: Tensor | None,
                num_kept: int) -> Merge:
        """Decide from tokens x, their embedding, both (R, L, D), and scores (R, L)."""
        length, count = x.shape[1], num_kept
        if self.filter:
            count = min(length, ceil(self.alpha * num_kept - _SLACK))
        with torch.no_grad():
            if count == length:  # all, in whatever order they would be picked
                index = torch.arange(length, device=x.device).expand(len(x), -1)
            else:
                index = self.pick(x.detach(), count)
            if self.filter:
                index = keep_attentive(index, scores, num_kept)
            else:
                index = index.sort(dim=1).values
        meta = features.gather(1, index.unsqueeze(-1).expand(-1, -1, x.shape[2]))
        weight = correspondence(features, meta, self.temperature, self.axes)
        return Merge(index, weight.mT)

    def extra_repr(self) -> str:
        return (f'alpha={self.alpha}, filter={self.filter}, '
                f'temperature={self.temperature}, axes={self.axes!r}')


class RandomMerge(OrthogonalMerge):
    """Meta tokens at random; filter and weights as in :class:`OrthogonalMerge`.

    In evaluation the draw is fixed and the same for every row, so that the result for a
    clip does not depend on its batch.
    """

    def pick(self, x: Tensor, count: int) -> Tensor:
        rows, length, _ = x.shape
        if self.training:
            return torch.rand(rows, length, device=x.device).topk(count, dim=1).indices
        return scrambled_order(length, x.device)[:count].expand(rows, -1)


class BipartiteMerge(nn.Module):
    """ToMe's soft bipartite matching of the tokens; no parameters, no options.

    See :func:`mmaction_tokenreduce.ops.bipartite_match`. The tokens themselves are
    compared; every token counts once, also one that an earlier merge made.
    """

    def forward(self, x: Tensor, features: Tensor, scores: Tensor | None,
                num_kept: int) -> Merge:
        """Decide from features (R, L, D)."""
        return Merge(*bipartite_match(features, features.shape[1] - num_kept))


MERGE_STRATEGIES = {
    'orthogonal': OrthogonalMerge,
    'random': RandomMerge,
    'bipartite': BipartiteMerge,
}


class TokenMerging(nn.Module):
    """Spatial-temporal token merger: L tokens in, L' = int(L (1 - ratio)) out.

    Class tokens are neither picked nor merged: the host takes them out before and puts
    them back after. With M the meta tokens: C = correspondence(phi(X), phi(M)),
    A = C^T X, P = C^T E, Y = fuse([A, P]) (eq. 2-6), phi and fuse linear. ``ratio=0``
    is the identity and has no parameters.

    Args:
        in_channels: D.
        ratio: Share of the tokens that is merged away, in [0, 1).
        scope: What a row is, see :meth:`rows`: ``'frame'`` merges within each frame,
            ``'clip'`` over all frames.
        strategy: A key of :data:`MERGE_STRATEGIES`. ``'bipartite'`` has neither phi nor
            fuse (Y = A), and none of the options below.
        alpha: Tokens picked for each meta token, before the filter. Where that would be
            more than there are (``ratio`` up to 1 - 1 / alpha) all are candidates, and
            the filter alone decides.
        filter: Whether candidates are filtered by their scores (Table 2).
        motion: Whether positions are fused in (Table 1). If not, Y = A: the paper's
            ablation removes the fusion layer too.
        temperature: Of both softmaxes.
        axes: Which softmaxes are applied, ``'both'``, ``'meta'`` or ``'input'``.
        init: ``'random'`` as in the paper (Sec. 4.2; PyTorch's default for linear
            layers). ``'identity'`` starts at the merged averages: phi(x) = x, Y = A.

    Raises:
        ValueError: If an argument is not allowed.
    """

    rank = 3  # at one place of a host it follows selection and pruning

    def __init__(self,
                 in_channels: int,
                 ratio: float = 0.5,
                 scope: Literal['frame', 'clip'] = 'frame',
                 strategy: Literal['orthogonal', 'random', 'bipartite'] = 'orthogonal',
                 alpha: float = 1.5,
                 filter: bool = True,
                 motion: bool = True,
                 temperature: float = 0.1,
                 axes: Axes = 'both',
                 init: Literal['random', 'identity'] = 'random') -> None:
        super().__init__()
        if not (isinstance(ratio, Real) and 0 <= ratio < 1):
            raise ValueError(f'TokenMerging: ratio={ratio!r}: must be a number in '
                             '[0, 1)')
        for name, value, allowed in (('scope', scope, SCOPES), ('init', init, INITS),
                                     ('strategy', strategy, (*MERGE_STRATEGIES, ))):
            if value not in allowed:
                raise ValueError(f'TokenMerging: {name}={value!r}: allowed are '
                                 f'{", ".join(allowed)}')
        self.ratio, self.scope, self.strategy = ratio, scope, strategy
        self.init = init
        self.choose = _strategy(strategy, motion=motion, init=init, alpha=alpha,
                                filter=filter, temperature=temperature, axes=axes)
        self.phi = self.fuse = None
        if strategy != 'bipartite' and ratio:
            self.phi = nn.Linear(in_channels, in_channels)
            if motion:
                self.fuse = nn.Linear(2 * in_channels, in_channels)
        self.init_weights()

    def init_weights(self) -> None:
        """Set the initial values anew (mmengine calls it after a host's ``init_cfg``,
        which would change them)."""
        for layer in (self.phi, self.fuse):
            if layer is None:
                continue
            if self.init == 'random':
                layer.reset_parameters()
            else:
                nn.init.eye_(layer.weight)  # of [A, P] it takes A
                nn.init.zeros_(layer.bias)

    @property
    def needs_positions(self) -> bool:
        """Whether :meth:`forward` must be given positions."""
        return self.fuse is not None

    @property
    def needs_scores(self) -> bool:
        """Whether :meth:`forward` must be given scores."""
        return self.phi is not None and self.choose.filter

    def share(self, other: 'TokenMerging') -> None:
        """Use the phi and fuse of ``other`` (the paper's text; off by default).

        They stay in the state dict under both names.

        Raises:
            ValueError: If the parameters of the two differ in shape.
        """
        mine, theirs = ({name: tuple(p.shape) for name, p in m.named_parameters()}
                        for m in (self, other))
        if mine != theirs:
            raise ValueError('TokenMerging: two modules can share parameters of equal '
                             f'shapes only, these have {mine} and {theirs}')
        self.phi, self.fuse = other.phi, other.fuse

    def kept_count(self, length: int) -> int:
        """L' for a row of ``length`` tokens.

        Raises:
            SelectionError: If no token would be left.
        """
        count = int(length * (1 - self.ratio) + _SLACK)
        if count < 1:
            raise SelectionError(f'TokenMerging: ratio={self.ratio} leaves none of '
                                 f'{length} tokens')
        return count

    def rows(self, x: Tensor, frames: int) -> Tensor:
        """Time-major values (B, T*N, ...) of ``frames`` frames as rows to merge.

        Returns:
            (B*T, N, ...) in scope ``'frame'``; x itself in scope ``'clip'``.

        Raises:
            ValueError: If the tokens are not ``frames`` frames of equal size.
        """
        if self.scope == 'clip':
            return x
        if x.shape[1] % frames:
            raise ValueError(f"TokenMerging: scope='frame' needs frames of equal size, "
                             f'{x.shape[1]} tokens are not {frames} of them')
        return x.unflatten(1, (frames, -1)).flatten(0, 1)

    def forward(self, x: Tensor, positions: Tensor | None = None,
                scores: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Merge the tokens of each row.

        Args:
            x: (R, L, D).
            positions: E (R, L, D), or (1, L, D) for all rows: the host's position
                embeddings, later the positions that the merge before returned. Needed
                where they are fused in; merged wherever they are given.
            scores: (R, L), the class token's attention to each token, mean over heads;
                without a class token the mean attention it receives.

        Returns:
            Y (R, L', D) of x's type, and P = C^T E (R, L', D), the positions for the
            next merge, or None if none were given.

        Raises:
            ValueError: If something needed is missing or of another shape.
            SelectionError: If no token would be left.
        """
        if not self.ratio:
            return x, positions
        self._check(x, positions, scores)
        features = x if self.phi is None else self.phi(x)
        weight = self.choose(x, features, scores, self.kept_count(x.shape[1])).weight
        y = merge(weight.mT, x)
        if positions is not None:
            positions = merge(weight.mT, positions)
        if self.fuse is not None:
            # The residual stream stays in its type under autocast.
            y = self.fuse(torch.cat((y, positions), dim=-1)).to(x.dtype)
        return y, positions

    def extra_repr(self) -> str:
        return f'ratio={self.ratio}, scope={self.scope!r}, strategy={self.strategy!r}'

    def _check(self, x: Tensor, positions: Tensor | None,
               scores: Tensor | None) -> None:
        width = 'D' if self.phi is None else self.phi.in_features
        if x.dim() != 3 or width not in ('D', x.shape[2]):
            raise ValueError(f'TokenMerging: x must be (R, L, {width}), got shape '
                             f'{tuple(x.shape)}')
        if positions is None and self.needs_positions:
            raise ValueError('TokenMerging: motion=True needs positions (the position '
                             'embeddings of the tokens), none were given')
        if scores is None and self.needs_scores:
            raise ValueError('TokenMerging: filter=True needs scores (the CLS attention'
                             ' or, without CLS, mean attention), none were given')
        rows, length, _ = x.shape
        if positions is not None and (positions.shape[1:] != x.shape[1:]
                                      or positions.shape[0] not in (1, rows)):
            raise ValueError(f'TokenMerging: positions of shape '
                             f'{tuple(positions.shape)} do not fit tokens of shape '
                             f'{tuple(x.shape)}')
        if scores is not None and scores.shape != (rows, length):
            raise ValueError(f'TokenMerging: scores of shape {tuple(scores.shape)} do '
                             f'not fit tokens of shape {tuple(x.shape)}')


def _strategy(strategy: str, motion: bool, init: str, **options: object) -> nn.Module:
    """The module that decides; raises ValueError for options that do not fit it."""
    if strategy != 'bipartite':
        try:
            return MERGE_STRATEGIES[strategy](**options)
        except ValueError as error:
            raise ValueError(f'TokenMerging: {error}') from error
    for name, value in dict(options, motion=motion, init=init).items():
        if value != _LEARNED_ONLY[name]:
            raise ValueError(f"TokenMerging: strategy='bipartite' has no {name}, got "
                             f'{name}={value!r}: leave it out')
    return BipartiteMerge()
