# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Which places of a clip each pruning keeps (EVAD, Sec. 3.2, Fig. 4).

Legend: T H W grid of patches.
"""
from dataclasses import dataclass

import numpy as np
from torch import nn

from ..layers import GridReducer, KeyframePruning, TokenMerging
from ..models.backbones.reduced_vit import ReducedViT
from ..ops.grid import Size3
from .token_steps import StepTrace

__all__ = ['PrunedGrid', 'PruningTrace']


@dataclass(frozen=True, eq=False)
class PrunedGrid:
    """What is left of one clip after one pruning.

    Attributes:
        where: ``'within'`` or ``'before'``, where in its block the pruning acts.
        block: Number of the block, from 0.
        kept: (T, H, W) bool, places whose token is still there.
        importance: (T, H, W) by which it ranked the tokens that it was given (of a
            random pruning: what was drawn); NaN where a token was gone before, and
            everywhere with ``keep=1``, which ranks nothing.
        keyframe: The token frame that is the keyframe.
    """
    where: str
    block: int
    kept: np.ndarray
    importance: np.ndarray
    keyframe: int

    @property
    def counts(self) -> np.ndarray:
        """(T, ) tokens that are left of each frame."""
        return self.kept.sum((1, 2))

    def summary(self) -> str:
        """'within block 3: 127 of 192 tokens (66%)'."""
        count, total = int(self.kept.sum()), self.kept.size
        return (f'{self.where} block {self.block}: {count} of {total} tokens '
                f'({count / total:.0%})')


class PruningTrace(StepTrace):
    """Records what the prunings of a model keep while it runs, and selects before.

    ::

        with PruningTrace(model) as trace:
            model(clips)
        trace.pruned(sample=0, thw=token_grid(model, clips.shape[-3:]))

    Args:
        model: Any module that holds a ``ReducedViT`` with prunings: a recogniser, a
            detector, a backbone.

    Raises:
        ValueError: If it holds none.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self._placed = [placed for module in model.modules()
                        if isinstance(module, ReducedViT)
                        for placed in module.placed_reducers()]
        if not any(isinstance(placed[2], KeyframePruning) for placed in self._placed):
            raise ValueError(f'{type(model).__name__} holds no pruning to watch: its '
                             'config has no KeyframePruning among its reducers')

    def pruned(self, sample: int, thw: Size3) -> list[PrunedGrid]:
        """What each pruning left of the clip number ``sample`` of the batch.

        Args:
            sample: Number of the clip.
            thw: The grid of its patches, see :func:`token_grid`.

        Returns:
            One of each pruning, in the order in which they act.

        Raises:
            ValueError: If the model was not run, or run more than once, or on another
                grid, or if there is no such clip.
        """
        self._check(len(self._watched))
        seen = dict(self._seen)
        places, frames, result = np.arange(np.prod(thw)), thw[0], []
        keyframe = frames // 2
        for where, block, reducer in self._placed:
            if isinstance(reducer, TokenMerging):
                continue  # what is pruned is pruned before
            importance = np.full(thw, np.nan)
            if reducer in seen:  # keep=1 decides nothing
                step, frames = self._step(reducer, seen[reducer], sample, len(places),
                                          frames)
                if isinstance(reducer, KeyframePruning):
                    ranked = seen[reducer].importance[sample].detach().cpu().float()
                    importance.flat[places] = ranked.numpy()
                if step is not None:
                    places = places[step.origin().numpy()]
            if isinstance(reducer, GridReducer):  # the middle of what is left
                first = frames // 2 * (len(places) // frames)
                keyframe = int(places[first]) // (thw[1] * thw[2])
                continue
            kept = np.zeros(thw, bool)
            kept.flat[places] = True
            result.append(PrunedGrid(where, block, kept, importance, keyframe))
        return result
