# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Which tokens become one, and how (STTM, Sec. 3.2; ToMe, arXiv 2210.09461, Sec. 3).

A merge is decided as weights that say how much of each input every output holds, and
applied as one matrix product, to features and positions alike.

Legend: R rows of which each is merged by itself (clips, or frames of clips), L tokens
in a row, L' of them after the merge, D channels, M meta tokens that were picked.
"""
from math import inf
from numbers import Real
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import no_autocast
from .topk import one_hot_rows

Axes = Literal['both', 'meta', 'input']
AXES = ('both', 'meta', 'input')


def keep_attentive(index: Tensor, scores: Tensor, k: int) -> Tensor:
    """Of the picked tokens, the k that the class token attends to most (Sec. 3.2.1).

    Args:
        index: (R, M) int64, the picked tokens, distinct, in any order.
        scores: (R, L), attention to each token of the row; of equals the token of
            lowest place is kept.
        k: Number of tokens to keep, 1 <= k <= M.

    Returns:
        (R, k) int64, in ascending order of place.

    Raises:
        ValueError: If ``k`` is not in [1, M].
    """
    if not 1 <= k <= index.shape[1]:
        raise ValueError(f'keep_attentive needs 1 <= k <= {index.shape[1]} (the number '
                         f'of picked tokens), got k={k}')
    index = index.sort(dim=1).values
    ranked = scores.detach().gather(1, index).argsort(dim=1, descending=True,
                                                      stable=True)
    return index.gather(1, ranked[:, :k].sort(dim=1).values)


def correspondence(fx: Tensor, fm: Tensor, temperature: float = 0.1,
                   axes: Axes = 'both') -> Tensor:
    """How much each input token counts in each output (Sec. 3.2.2, eq. 4).

    With S the cosines of ``fx`` and ``fm`` and t the temperature, ``axes='both'`` is ::

        W = softmax(S / t) over the L' meta tokens, for each input
        C = softmax(W / t) over the L inputs, for each output

    The paper names no temperature. W lies in [0, 1]: without a division in the second
    softmax too, all of its L terms are nearly equal, and so are all outputs. The two
    others leave one softmax out: ``'meta'`` divides W by its sums over the inputs,
    ``'input'`` is softmax(S / t) over the inputs. The cosine to a zero token is 0, and
    has no gradient.

    Args:
        fx: (R, L, D), embedded input tokens; any length.
        fm: (R, L', D), embedded meta tokens; any length.
        temperature: t, > 0.
        axes: Which softmaxes are applied.

    Returns:
        C (R, L, L') float32, not negative; each column (R, :, L') sums to 1.

    Raises:
        ValueError: If ``temperature`` or ``axes`` is not allowed.
    """
    check_correspondence(temperature, axes)
    with no_autocast(fx):
        fx, fm = _unit(fx.float()), _unit(fm.float())
        weights = torch.matmul(fx, fm.mT) / temperature
        if axes == 'input':
            return weights.softmax(dim=-2)
        weights = weights.softmax(dim=-1)
        if axes == 'both':
            return (weights / temperature).softmax(dim=-2)
        # A meta token that is nobody's nearest can vanish at a low temperature.
        tiny = torch.finfo(weights.dtype).tiny
        return weights / weights.sum(dim=-2, keepdim=True).clamp_min(tiny)


def _unit(x: Tensor) -> Tensor:
    """Tokens (..., D) of length 1; zero tokens stay zero.

    Dividing these by a small number instead, as ``F.normalize`` does, would make their
    gradient enormous.
    """
    norm = x.norm(dim=-1, keepdim=True)
    return x / norm.masked_fill(norm < 1e-6, inf)


def check_correspondence(temperature: float, axes: str) -> None:
    """Raise ValueError for what :func:`correspondence` does not allow."""
    if not (isinstance(temperature, Real) and 0 < temperature < inf):
        raise ValueError(f'temperature={temperature!r}: must be a finite number above '
                         '0')
    if axes not in AXES:
        raise ValueError(f'axes={axes!r}: allowed are {", ".join(AXES)}')


def merge(weights: Tensor, x: Tensor) -> Tensor:
    """Weighted sums of tokens: C^T X (eq. 5), or C^T E for positions (eq. 6).

    The product is made in the type of ``x``, under autocast too: what is merged is the
    residual stream, which hosts keep in float32 there.

    Args:
        weights: C (R, L, L').
        x: (R, L, D), or (1, L, D) for all rows.

    Returns:
        (R, L', D) of x's type.
    """
    with no_autocast(x):
        return torch.matmul(weights.mT.to(x.dtype), x)


def bipartite_match(x: Tensor, r: int, protect: int = 0,
                    size: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Soft bipartite matching, the training-free merge of ToMe (Sec. 3).

    Tokens alternate between sets A and B; each of A is linked to its most similar
    token of B (cosine); the r most similar links are merged, each group into the mean
    of its tokens weighted by their sizes. One round removes at most half of the tokens:
    where more must go, rounds follow on the merged tokens. Of equals the lowest place
    comes first. ToMe compares the keys of the attention before and adds log(size) to
    the attention that follows (proportional attention): what is compared is the
    caller's choice here, and the latter is out of scope.

    Args:
        x: (R, L, D), what is compared: keys, or the tokens themselves.
        r: Number of tokens to remove, 0 <= r < L - protect.
        protect: Tokens at the front that stay as they are (a class token).
        size: (R, L) tokens that each token stands for already; 1 if None.

    Returns:
        Index (R, L - r) int64, ascending: the token that each output stems from (of a
        group the one of set B, of the last round). Weights (R, L - r, L) float32, rows
        that sum to 1; they carry no gradient.

    Raises:
        ValueError: If ``r`` or ``protect`` is not allowed.
    """
    rows, length, _ = x.shape
    if not 0 <= protect <= length:
        raise ValueError(f'protect={protect}: must be in [0, {length}] (the number of '
                         'tokens)')
    if r and not 0 <= r < length - protect:
        raise ValueError(f'r={r}: bipartite matching can remove 0 to '
                         f'{max(length - protect - 1, 0)} of {length} tokens, '
                         f'{protect} of them protected')
    with torch.no_grad(), no_autocast(x):
        mass = x.new_ones(rows, length) if size is None else size.detach()
        mass = mass.float()
        group, index = _match_rounds(x.detach()[:, protect:].float(),
                                     mass[:, protect:], r)
        kept = torch.arange(protect, device=x.device).expand(rows, -1)
        group = torch.cat((kept, group + protect), dim=1)
        index = torch.cat((kept, index + protect), dim=1)
        weights = one_hot_rows(group, length - r, torch.float32).mT * mass.unsqueeze(1)
        return index, weights / weights.sum(dim=-1, keepdim=True)


def _match_rounds(x: Tensor, mass: Tensor, r: int) -> tuple[Tensor, Tensor]:
    """The group (R, L) of each token and the place (R, L - r) of each group."""
    rows, count, _ = x.shape
    group = index = torch.arange(count, device=x.device).expand(rows, -1)
    while r:
        step = min(r, count // 2)
        target = _link(x, step)
        own = target == torch.arange(count, device=x.device)
        # Groups keep their order; those that were merged away are left out.
        number = (own.cumsum(dim=1) - 1).gather(1, target)
        group = number.gather(1, group)
        r, count = r - step, count - step
        left = (~own).long().argsort(dim=1, stable=True)[:, :count]
        index = index.gather(1, left)
        share = one_hot_rows(number, count, x.dtype).mT * mass.unsqueeze(1)
        mass = share.sum(dim=-1)
        x = torch.bmm(share, x) / mass.unsqueeze(-1)
    return group, index


def _link(x: Tensor, r: int) -> Tensor:
    """(R, L) where each token goes in one round: to itself, or from A into B."""
    unit = F.normalize(x, dim=-1)
    # Set A stands at even places, set B at odd ones.
    similarity, partner = torch.bmm(unit[:, ::2], unit[:, 1::2].mT).max(dim=-1)
    merged = similarity.argsort(dim=1, descending=True, stable=True)[:, :r]
    target = torch.arange(x.shape[1], device=x.device).repeat(len(x), 1)
    return target.scatter(1, 2 * merged, 2 * partner.gather(1, merged) + 1)
