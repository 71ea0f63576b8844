# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Which patches went into which merged token (STTM, Sec. 4.5, Fig. 4).

Legend: T H W grid of patches, K tokens after the last merge.
"""
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ..layers import TokenMerging
from ..ops.grid import Size3
from .token_steps import StepTrace

__all__ = ['MergeTrace', 'MergedTokens']

NOWHERE = -1


@dataclass(frozen=True, eq=False)
class MergedTokens:
    """What the merges made of the patches of one clip.

    Attributes:
        weight: (K, T, H, W), how much of each patch a token holds after all merges: the
            product of the merges' weights. Sums to 1 for each token. Layers between
            the merges, which mix tokens too, are not part of it.
        tokens: (T, H, W) int64, the token that holds most of a patch, the first of
            equals; -1 for patches that no token holds, as they were dropped before.
        meta: (K, 3) int64, frame, row and column of the patch that a token stems from:
            the meta token's meta token, down to the patches.
    """
    weight: np.ndarray
    tokens: np.ndarray
    meta: np.ndarray

    @property
    def counts(self) -> np.ndarray:
        """(K, ) patches that are in each token before all others."""
        return np.bincount(self.tokens[self.tokens != NOWHERE],
                           minlength=len(self.weight))

    @property
    def shares(self) -> np.ndarray:
        """(K, ) how much of each token's weight lies on the patches counted for it.

        Near ``counts`` / all patches where a token is but an average of everything, as
        merges are before they are trained.
        """
        own = self.tokens == np.arange(len(self.weight))[:, None, None, None]
        return (self.weight * own).sum((1, 2, 3))

    def largest(self, count: int) -> np.ndarray:
        """The ``count`` tokens that hold the most patches, largest first.

        Of equals the first come first; tokens that hold none are left out.
        """
        order = np.argsort(-self.counts, kind='stable')[:count]
        return order[self.counts[order] > 0]

    def summary(self) -> str:
        """'1568 patches in 392 tokens'."""
        held = int((self.tokens != NOWHERE).sum())
        gone = self.tokens.size - held
        dropped = f', {gone} dropped' if gone else ''
        return f'{held} patches in {len(self.weight)} tokens{dropped}'


class MergeTrace(StepTrace):
    """Records what a model merges while it runs, and selects or prunes before that.

    ::

        with MergeTrace(model) as trace:
            model(clips)
        trace.merged(sample=0, thw=token_grid(model, clips.shape[-3:]))

    Args:
        model: Any module that holds merges.

    Raises:
        ValueError: If it holds none.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        if not any(isinstance(m, TokenMerging) for m in self._watched):
            raise ValueError(f'{type(model).__name__} holds no merge to watch: its '
                             'config has no TokenMerging among its reducers')

    def merged(self, sample: int, thw: Size3) -> MergedTokens:
        """What became of the patches of the clip number ``sample`` of the batch.

        Args:
            sample: Number of the clip.
            thw: The grid of its patches, see :func:`token_grid`.

        Raises:
            ValueError: If the model was not run, or run more than once, or on another
                grid, or if there is no such clip.
        """
        self._check(len(self._watched))
        tokens, frames, steps = int(np.prod(thw)), thw[0], []
        for module, what in self._seen:
            step, frames = self._step(module, what, sample, tokens, frames)
            if step is not None:
                steps.append(step)
                tokens = len(step.origin())
        weight, meta = torch.eye(tokens, dtype=torch.float64), torch.arange(tokens)
        for step in reversed(steps):
            weight, meta = step.pull(weight), step.origin()[meta]
        best = weight.argmax(0).masked_fill(weight.sum(0) == 0, NOWHERE)
        meta = np.stack(np.unravel_index(meta.numpy(), thw), axis=-1)
        return MergedTokens(weight.unflatten(1, thw).numpy(),
                            best.unflatten(0, thw).numpy(), meta)
