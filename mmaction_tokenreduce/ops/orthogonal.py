# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Greedy choice of tokens that are as orthogonal as possible (STTM, Sec. 3.2.1, eq. 3).

The paper's loop compares every token with the newest pick, D channels wide, at each
step. All |cosines| are one matrix product, so that is done first; a step then reads
one row of the L x L matrix and updates a running maximum.

Legend: R rows of which each is chosen from by itself (clips, or frames of clips), L
tokens in a row, D channels, k picked.
"""
import functools
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import no_autocast

__all__ = ['greedy_loop', 'orthogonal_select']


def orthogonal_select(x: Tensor,
                      k: int,
                      first: Tensor | None = None,
                      generator: torch.Generator | None = None,
                      mask: Tensor | None = None) -> Tensor:
    """Pick k tokens of each row, each next the one most orthogonal to those picked.

    The next token is the one whose largest |cosine| to the picked tokens is smallest;
    of equals the one of lowest index. The cosine to a zero token is 0, so that zero
    tokens come first; a token that holds NaN counts as parallel to all and comes last.
    Computed in float32 whatever the autocast state; nothing is differentiated.

    On CUDA one Triton kernel makes all steps (see ``orthogonal_triton.py``); where
    Triton cannot run, and on other devices, a loop of four small operations a step
    does, with the same result. Neither waits for the device.

    Args:
        x: (R, L, D) tokens.
        k: Number of tokens to pick, 1 <= k <= L.
        first: (R,), the token to start from, in [0, L) (checked on a CPU, or with a
            mask); drawn at random if None.
        generator: Of x's device, draws ``first``; the global generator if None.
        mask: (R, L) bool, True where a token may be picked. Checking k against it
            waits for the device.

    Returns:
        (R, k) int64, in the order of picking; the k of a row are distinct.

    Raises:
        ValueError: If a shape does not fit, k exceeds what may be picked in a row, or
            ``first`` may not be picked.
    """
    _check(x, k, first, mask)
    with torch.no_grad(), no_autocast(x):
        unit = F.normalize(x.detach().float(), dim=-1)
        near = _products(unit).abs_().nan_to_num_(nan=1.0)
        # What is infinitely near something picked is never the farthest: a token to
        # itself, and a masked one to all.
        own = torch.eye(near.shape[1], dtype=torch.bool, device=near.device)
        near.masked_fill_(own, torch.inf)  # filling the diagonal cannot be exported
        if mask is not None:
            near.masked_fill_(~mask.unsqueeze(1), torch.inf)
        if first is None:
            first = _draw(x, generator, mask)
        return _greedy_pick(near, first.long(), k)


def _products(unit: Tensor) -> Tensor:
    """X X^T (R, L, L) of x (R, L, D), most of what is mirrored computed once."""
    length = unit.shape[1]
    step = max(-(-length // 4), 1)  # in four bands 5/8 of the work is left
    out = unit.new_empty(len(unit), length, length)
    for start in range(0, length, step):
        band = torch.bmm(unit[:, start:start + step], unit[:, start:].mT)
        out[:, start:start + step, start:] = band
        out[:, start:, start:start + step] = band.mT
    return out


def greedy_loop(near: Tensor, first: Tensor, k: int) -> Tensor:
    """The steps of :func:`orthogonal_select` as a loop; any device.

    Args:
        near: (R, L, L) float32 |cosines|, infinite on the diagonal.
        first: (R,) int64.
        k: Number of tokens to pick.

    Returns:
        (R, k) int64, in the order of picking.

    Raises:
        ValueError: If ``first``, on a CPU, is not in [0, L).
    """
    rows, length, _ = near.shape
    if near.device.type == 'cpu':
        _check_first(first, length)
    near = near.reshape(rows * length, length)
    offset = torch.arange(rows, device=near.device) * length
    picked = torch.empty(k, rows, dtype=torch.long, device=near.device)
    # One tensor a step, made at once: indexing in the loop would cost as much as the
    # operations themselves.
    token, *following = picked.unbind(0)
    token.copy_(first)
    place = token + offset
    worst = near.index_select(0, place)  # largest |cosine| to what is picked
    row = torch.empty_like(worst)
    for token in following:
        torch.argmin(worst, dim=1, out=token)
        torch.add(token, offset, out=place)
        torch.index_select(near, 0, place, out=row)
        torch.maximum(worst, row, out=worst)
    return picked.t().contiguous()


# One operator for compilers, exporters and tracers, which would unroll the loop.
@torch.library.custom_op('mmaction_tokenreduce::greedy_pick', mutates_args=())
def _greedy_pick(near: Tensor, first: Tensor, k: int) -> Tensor:
    kernel = _triton_kernel() if near.is_cuda else None
    return (kernel or greedy_loop)(near, first, k)


@_greedy_pick.register_fake
def _(near: Tensor, first: Tensor, k: int) -> Tensor:
    return first.new_empty(near.shape[0], k)


@functools.cache
def _triton_kernel() -> Callable[[Tensor, Tensor, int], Tensor] | None:
    """The kernel, if Triton is here and can build it; None otherwise."""
    try:
        from .orthogonal_triton import greedy_kernel
        near = torch.full((1, 2, 2), torch.inf, device='cuda')
        greedy_kernel(near, torch.zeros(1, dtype=torch.long, device='cuda'), 2)
    except Exception as error:  # whatever stops it, the loop gives the same result
        warnings.warn('the greedy selection of tokens runs as a loop of small CUDA '
                      f'kernels, which is slow: {type(error).__name__}: {error}',
                      stacklevel=2)
        return None
    return greedy_kernel


def _draw(x: Tensor, generator: torch.Generator | None, mask: Tensor | None) -> Tensor:
    """(R,) a token of each row that may be picked, each alike likely."""
    if mask is None:
        return torch.randint(x.shape[1], x.shape[:1], generator=generator,
                             device=x.device)
    return torch.multinomial(mask.float(), 1, generator=generator).squeeze(1)


def _check_first(first: Tensor, length: int) -> None:
    if not all(0 <= i < length for i in first.tolist()):
        raise ValueError(f'first={first.tolist()}: must be in [0, {length}) (the '
                         'number of tokens)')


def _check(x: Tensor, k: int, first: Tensor | None, mask: Tensor | None) -> None:
    if x.dim() != 3:
        raise ValueError(f'x must be (R, L, D), got shape {tuple(x.shape)}')
    if first is not None and first.shape != x.shape[:1]:
        raise ValueError(f'first must be (R,) for x of shape {tuple(x.shape)}, got '
                         f'shape {tuple(first.shape)}')
    allowed, what = x.shape[1], 'the number of tokens'
    if mask is not None:
        if mask.shape != x.shape[:2] or mask.dtype != torch.bool:
            raise ValueError(f'mask must be bool (R, L) for x of shape '
                             f'{tuple(x.shape)}, got {mask.dtype} of shape '
                             f'{tuple(mask.shape)}')
        allowed, what = int(mask.sum(1).min()), 'what the mask leaves in a row'
    if not 1 <= k <= allowed:
        raise ValueError(f'orthogonal_select needs 1 <= k <= {allowed} ({what}), got '
                         f'k={k}')
    if first is None or mask is None:
        return
    _check_first(first, x.shape[1])
    if not mask.gather(1, first.unsqueeze(1)).all():
        raise ValueError(f'first={first.tolist()}: the mask forbids one of them')
