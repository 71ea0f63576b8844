# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Top-K selection: hard, perturbed (STTS, Sec. 3.2, eq. 4-8), and by Gumbel draws.

The paper writes a selection as K one-hot rows over L candidates and averages them
over n noisy draws. Here a draw is kept as its K sorted indices: the average is a
count (scatter), and everything that the gradient needs is a gather. The one-hot
form of B x n x K x L values is never made.

Legend: B sequences, L candidates, K kept, n noise samples, Y (B, K, L) indicators.
"""
from typing import Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .precision import no_autocast

GradientKind = Literal['full', 'full_no_baseline', 'diagonal']
GRADIENTS = ('full', 'full_no_baseline', 'diagonal')


def hard_topk(scores: Tensor, k: int) -> Tensor:
    """Indices of the K largest scores, in their order of place (eq. 4).

    Args:
        scores: (..., L).
        k: Number of entries to keep, 1 <= k <= L.

    Returns:
        (..., K) int64, ascending.

    Raises:
        ValueError: If ``k`` is not in [1, L].
    """
    _check_k(k, scores.shape[-1])
    if k == 1:
        return scores.argmax(dim=-1, keepdim=True)
    return _ascending(scores.topk(k, dim=-1, sorted=False).indices, scores.shape[-1])


def scrambled_order(length: int, device: torch.device) -> Tensor:
    """0 ... length - 1 in an order that looks random and is the same everywhere.

    A hash rather than a generator: no state, nothing to copy to the device, and
    compilers can trace it.
    """
    key = torch.arange(1, length + 1, device=device)
    for _ in range(2):  # one-to-one on 32 bits, so that no two keys are equal
        key = ((key ^ (key >> 16)) * 0x45d9f3b) & 0xffffffff
    return (key ^ (key >> 16)).argsort()


def one_hot_rows(index: Tensor, length: int, dtype: torch.dtype) -> Tensor:
    """Indices (..., K) as indicator rows (..., K, L) of ``dtype``."""
    rows = torch.zeros(*index.shape, length, dtype=dtype, device=index.device)
    return rows.scatter_(-1, index.unsqueeze(-1), 1)


def perturbed_topk(scores: Tensor,
                   k: int,
                   sigma: float | Tensor = 0.1,
                   num_samples: int = 500,
                   noise: Tensor | None = None,
                   gradient: GradientKind = 'full') -> Tensor:
    """Expected indicators of the top K under Gaussian noise (eq. 7).

    ``Y = mean_i onehot(topk(scores + sigma * z_i))``, computed in float32 whatever
    the autocast state. At ``sigma = 0`` the result is the hard top-K and the
    gradient is zero.

    Args:
        scores: (B, L), min-max normalised by the caller.
        k: Number of entries to keep, 1 <= k <= L.
        sigma: Standard deviation of the noise, >= 0; a 0-d tensor is not synchronised.
        num_samples: n, draws to average; ignored when ``noise`` is given.
        noise: (B, n, L) standard normal draws; drawn on the scores' device if None.
        gradient: ``'full'`` is the Jacobian of eq. 8 with the sample mean of the
            directional loss subtracted, scaled by n / (n - 1): unbiased, and of much
            lower variance. ``'full_no_baseline'`` is eq. 8 as it stands.
            ``'diagonal'`` is what the released code returns: d L / d Y[k, d]
            contracted with E[Y[k, d] z[d]] / sigma only.

    Returns:
        (B, K, L) float32; each of the K rows sums to 1.

    Raises:
        ValueError: If ``k``, ``gradient``, ``num_samples`` or a shape is not allowed.
    """
    if scores.dim() != 2:
        raise ValueError(f'scores must be (B, L), got shape {tuple(scores.shape)}')
    _check_k(k, scores.shape[1])
    if gradient not in GRADIENTS:
        raise ValueError(f'gradient={gradient!r}: allowed are {", ".join(GRADIENTS)}')
    with no_autocast(scores):
        scores = scores.float()
        if noise is None:
            noise = torch.randn(
                scores.shape[0], num_samples, scores.shape[1], device=scores.device)
        elif noise.shape[::2] != scores.shape or noise.dim() != 3:
            raise ValueError(f'noise must be (B, n, L) for scores of shape '
                             f'{tuple(scores.shape)}, got {tuple(noise.shape)}')
        if noise.shape[1] < 2:
            raise ValueError(f'num_samples={noise.shape[1]}: at least 2 are needed')
        sigma = torch.as_tensor(sigma, dtype=torch.float32, device=scores.device)
        return _PerturbedTopK.apply(scores, noise.float(), sigma, k, gradient)


def gumbel_topk(scores: Tensor, k: int, tau: float = 1.0,
                noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """K draws without replacement, each a straight-through Gumbel-softmax.

    The j-th draw is the argmax of ``scores + noise`` over what earlier draws left; its
    indicator carries the gradient of the softmax over the same candidates
    (arXiv 1611.01144, eq. 2 and Sec. 2.2). Computed in float32.

    Args:
        scores: (B, L) logits.
        k: Number of entries to draw, 1 <= k <= L.
        tau: Temperature of the softmax, > 0.
        noise: (B, L) standard Gumbel draws; drawn on the scores' device if None.

    Returns:
        Indices (B, K), ascending, and their indicators (B, K, L) in the same order:
        one-hot in value.

    Raises:
        ValueError: If ``k`` is not in [1, L].
    """
    _check_k(k, scores.shape[-1])
    with no_autocast(scores):
        scores = scores.float()
        if noise is None:
            noise = -torch.empty_like(scores).exponential_().log()
        logits = scores + noise
        drawn = logits.detach().topk(k, dim=-1).indices  # best first: the draws' order
        hard = one_hot_rows(drawn, scores.shape[-1], scores.dtype)
        gone = hard.cumsum(dim=1) - hard  # what earlier draws took
        soft = logits.unsqueeze(1).masked_fill(gone > 0, -torch.inf)
        soft = (soft / tau).softmax(dim=-1)
        weight = hard + (soft - soft.detach())  # in value exactly one-hot
        index, order = drawn.sort(dim=-1)
        return index, weight.take_along_dim(order.unsqueeze(-1), dim=1)


class _PerturbedTopK(torch.autograd.Function):
    """Counts indices forwards; contracts them with the noise backwards."""

    @staticmethod
    def forward(ctx, scores: Tensor, noise: Tensor, sigma: Tensor, k: int,
                gradient: str) -> Tensor:
        length = scores.shape[1]
        index = hard_topk(torch.addcmul(scores.unsqueeze(1), noise, sigma), k)
        cells = _flat_cells(index, length)  # (B, n*K) into K*L
        counts = noise.new_zeros(scores.shape[0], k * length)
        counts.scatter_add_(1, cells, counts.new_ones(()).expand_as(cells))
        # Cells fit 32 bits: half of what is held until backward.
        ctx.save_for_backward(cells.int(), noise, sigma)
        ctx.k, ctx.gradient = k, gradient
        return counts.view(-1, k, length) / noise.shape[1]

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        cells, noise, sigma = ctx.saved_tensors
        cells = cells.long()
        batch, num_samples, length = noise.shape
        # (B, n, K): what each chosen cell of each draw contributes to the loss.
        picked = grad.float().flatten(1).gather(1, cells)
        picked = picked.view(batch, num_samples, ctx.k)
        if ctx.gradient == 'diagonal':
            index = cells.view_as(picked) % length
            at_choice = noise.gather(2, index).mul_(picked)
            total = noise.new_zeros(batch, length).scatter_add_(
                1, index.flatten(1), at_choice.flatten(1)) / num_samples
        else:
            loss = picked.sum(-1)  # (B, n): directional loss of each draw
            divisor = num_samples
            if ctx.gradient == 'full':
                loss = loss - loss.mean(1, keepdim=True)
                divisor = num_samples - 1
            total = torch.bmm(loss.unsqueeze(1), noise).squeeze(1) / divisor
        zero = torch.zeros_like(total)
        return torch.where(sigma > 0, total / sigma, zero), None, None, None, None


def _flat_cells(index: Tensor, length: int) -> Tensor:
    """Indices (B, n, K) as positions (B, n*K) in the flattened (K, L) indicators."""
    offset = torch.arange(index.shape[-1], device=index.device) * length
    return (index + offset).flatten(1)


def _ascending(index: Tensor, length: int) -> Tensor:
    """Sort the last dimension of distinct indices (..., K) below ``length``."""
    if (index.device.type != 'cpu' or torch.compiler.is_compiling()
            or torch.jit.is_tracing()):
        return index.sort(dim=-1).values
    # Marking places and reading the marks in order is faster than sorting on a CPU;
    # elsewhere it would wait for the device.
    marks = torch.zeros(*index.shape[:-1], length, dtype=torch.bool)
    marks = marks.scatter_(-1, index, True).view(-1, length)
    return marks.nonzero()[:, 1].view(index.shape)


def _check_k(k: int, length: int) -> None:
    if not 1 <= k <= length:
        raise ValueError(f'top-k needs 1 <= k <= {length} (the number of candidates), '
                         f'got k={k}')
