# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Ways to choose K of L candidates behind one interface (STTS, Sec. 3.2, Table 1).

Each is a module ``(scores (B, L), k) -> Choice``. The choice is its output, so that a
standard forward hook sees every decision of a model; nothing is kept between calls.
``ranks_by`` says where the scores come from: ``'score_net'``, ``'cls_attention'``, or
None where the choice does not look; ``normalized`` whether they are min-max scaled.
"""
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..ops import gumbel_topk, hard_topk, perturbed_topk
from ..ops.topk import GRADIENTS, GradientKind

__all__ = [
    'Choice', 'CLSAttentionTopK', 'GumbelTopK', 'PerturbedTopK', 'RandomTopK',
    'STRATEGIES', 'UniformTopK'
]


class Choice(NamedTuple):
    """Which candidates were chosen.

    Attributes:
        index: (B, K) int64, ascending.
        weight: (B, K, L) expected indicators, which carry the gradient to the scores;
            None where the choice is hard and tokens are simply gathered.
        scores: (B, L) that were ranked.
    """
    index: Tensor
    weight: Tensor | None
    scores: Tensor


class PerturbedTopK(nn.Module):
    """Differentiable top-K in training, hard top-K in evaluation (eq. 4-8).

    ``sigma`` is a non-persistent buffer: it is not part of a checkpoint, and
    :class:`SigmaDecayHook` derives it anew from the iteration.

    Args:
        sigma: Initial standard deviation of the noise, >= 0.
        num_samples: n of eq. 7.
        gradient: See :func:`mmaction_tokenreduce.ops.perturbed_topk`.

    Raises:
        ValueError: If an argument is not allowed.
    """
    ranks_by, normalized = 'score_net', True

    def __init__(self, sigma: float = 0.1, num_samples: int = 500,
                 gradient: GradientKind = 'full') -> None:
        super().__init__()
        if not 0 <= sigma < math.inf:
            raise ValueError(f'sigma={sigma}: must be a number, not negative')
        if type(num_samples) is not int or num_samples < 2:
            raise ValueError(f'num_samples={num_samples}: a whole number of at least 2 '
                             'is needed')
        if gradient not in GRADIENTS:
            raise ValueError(
                f'gradient={gradient!r}: allowed are {", ".join(GRADIENTS)}')
        self.initial_sigma = float(sigma)
        self.num_samples = num_samples
        self.gradient = gradient
        self.register_buffer('sigma', torch.tensor(float(sigma)), persistent=False)

    def forward(self, scores: Tensor, k: int) -> Choice:
        index = hard_topk(scores.detach(), k)
        if not self.training:
            return Choice(index, None, scores)
        weight = perturbed_topk(scores, k, self.sigma, self.num_samples,
                                gradient=self.gradient)
        return Choice(index, weight, scores)

    def extra_repr(self) -> str:
        return (f'sigma={self.initial_sigma}, num_samples={self.num_samples}, '
                f'gradient={self.gradient!r}')


class GumbelTopK(nn.Module):
    """K draws without replacement by Gumbel-softmax, straight-through (Table 1, GS).

    In training each of the K draws is a one-hot choice among what the draws before it
    left, with the gradient of its softmax; in evaluation the top K are taken. The paper
    leaves the baseline to its supplement; what is fixed here is that raw scores are the
    logits, so that the score network also learns how sure it is.

    Args:
        tau: Temperature of the softmax that gradients go through, > 0.

    Raises:
        ValueError: If ``tau`` is not positive.
    """
    ranks_by, normalized = 'score_net', False

    def __init__(self, tau: float = 1.0) -> None:
        super().__init__()
        if tau <= 0:
            raise ValueError(f'tau={tau}: must be positive')
        self.tau = tau

    def forward(self, scores: Tensor, k: int) -> Choice:
        if not self.training:
            return Choice(hard_topk(scores.detach(), k), None, scores)
        index, weight = gumbel_topk(scores, k, self.tau)
        return Choice(index, weight, scores)

    def extra_repr(self) -> str:
        return f'tau={self.tau}'


class CLSAttentionTopK(nn.Module):
    """The K that the class token attends to most (Table 1, Atten.); never learned."""
    ranks_by, normalized = 'cls_attention', True

    def forward(self, scores: Tensor, k: int) -> Choice:
        return Choice(hard_topk(scores.detach(), k), None, scores)


class RandomTopK(nn.Module):
    """K candidates at random, each draw alike likely (Table 1, Rand.)."""
    ranks_by, normalized = None, False

    def forward(self, scores: Tensor, k: int) -> Choice:
        return Choice(hard_topk(torch.rand_like(scores), k), None, scores)


class UniformTopK(nn.Module):
    """K candidates at equal distance: trunc(linspace(0, L - 1, K))."""
    ranks_by, normalized = None, False

    def forward(self, scores: Tensor, k: int) -> Choice:
        # Integer division: linspace in float32 can fall just below a whole number.
        steps = torch.arange(k, device=scores.device) * (scores.shape[1] - 1)
        index = steps // max(k - 1, 1)
        return Choice(index.expand(len(scores), -1), None, scores)


STRATEGIES = {
    'perturbed_topk': PerturbedTopK,
    'random': RandomTopK,
    'uniform': UniformTopK,
    'cls_attention': CLSAttentionTopK,
    'gumbel': GumbelTopK,
}
