# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What reducers did to the tokens of one clip, step by step, seen through hooks.

Every step is linear in the tokens, so that a row of weights over the tokens after it
can be pulled back to the tokens before it. Merged tokens are told apart that way, and
attention is rolled out.

Legend: B batch, T H W grid of patches, R rows that are merged each by itself, L tokens
in a row before a merge, L' after it, M tokens of a clip before a step, K after it.
"""
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..layers import Choice, GridReducer, KeyframePruning, TokenMerging
from ..ops.grid import Size3
from .watch import DecisionWatch

__all__ = ['MergeStep', 'SelectionStep', 'StepTrace', 'patch_projection', 'token_grid']


class MergeStep(NamedTuple):
    """One merge of one clip.

    Attributes:
        index: (R, L') int64, the token of its row that each output stems from.
        weight: (R, L', L), how much of each input an output holds.
    """
    index: Tensor
    weight: Tensor

    @property
    def num_before(self) -> int:
        """Tokens of the clip before it."""
        return self.weight.shape[0] * self.weight.shape[2]

    def pull(self, rows: Tensor) -> Tensor:
        """Weights (n, K) over the tokens after it, as weights (n, M) before it."""
        parts = rows.unflatten(1, self.weight.shape[:2])  # (n, R, L')
        return torch.einsum('nrk,rkl->nrl', parts, self.weight).flatten(1)

    def origin(self) -> Tensor:
        """(K, ) the token of the clip that each output stems from."""
        first = torch.arange(len(self.index)) * self.weight.shape[2]
        return (first.unsqueeze(1) + self.index).flatten()


class SelectionStep(NamedTuple):
    """One selection or pruning in one clip.

    Attributes:
        places: (K, ) int64, which of the tokens were kept, in the order in which they
            stand after it.
        num_before: M.
    """
    places: Tensor
    num_before: int

    def pull(self, rows: Tensor) -> Tensor:
        """Weights (n, K) over the tokens after it, as weights (n, M) before it."""
        return rows.new_zeros(len(rows), self.num_before).index_copy(1, self.places,
                                                                     rows)

    def origin(self) -> Tensor:
        """(K, ) the token of the clip that each output stems from."""
        return self.places


class StepTrace(DecisionWatch):
    """Base of the traces: records selections, prunings and merges of a model while it
    runs.

    Args:
        model: Any module that holds reducers.
    """

    def __init__(self, model: nn.Module) -> None:
        # A ratio or share that leaves all tokens decides nothing.
        super().__init__([m for m in model.modules() if isinstance(m, GridReducer)
                          or isinstance(m, TokenMerging) and m.ratio
                          or isinstance(m, KeyframePruning) and m.keep != 1])

    def _see_call(self, module: nn.Module, args: tuple, output: tuple) -> None:
        what = self._decision
        if isinstance(module, GridReducer):
            what = (len(args[0]), tuple(args[1]), self._decision)
        self._seen.append((module, what))
        self._decision = None

    def _check(self, expected: int) -> None:
        """Refuse what is not one run of the whole model.

        Raises:
            ValueError: If not each of ``expected`` modules was called once.
        """
        calls = [module for module, _ in self._seen]
        if len(calls) != expected or len(set(calls)) != expected:
            raise ValueError(f'{len(calls)} calls of {expected} watched modules were '
                             'recorded: run the model once, clear() in between')

    def _step(self, module: nn.Module, what: Any, sample: int,
              tokens: int, frames: int) -> tuple[MergeStep | SelectionStep | None, int]:
        """What a reducer did to one clip of ``tokens`` tokens and ``frames`` frames.

        Returns:
            The step, None where all was kept, and the frames after it.

        Raises:
            ValueError: If the tokens are not as many, or there is no such clip.
        """
        if isinstance(module, GridReducer):
            step, frames, batch = _selection(module, *what, sample)
        elif isinstance(module, KeyframePruning):
            batch, kept = what.index.shape
            step = SelectionStep(what.index[sample:sample + 1].flatten().cpu(),
                                 kept + what.dropped.shape[1])
        else:
            index, weight = (part.detach().cpu() for part in what)
            part = slice(sample, sample + 1)
            batch = len(weight)
            if module.scope == 'frame':
                batch //= frames
                part = slice(sample * frames, (sample + 1) * frames)
            step = MergeStep(index[part], weight[part].double())
        if not 0 <= sample < batch:
            raise ValueError(f'sample {sample}: the batch had {batch} clips')
        if step is not None and step.num_before != tokens:
            raise ValueError(f'{type(module).__name__} was given {step.num_before} '
                             f'tokens of a clip, by the grid there are {tokens}')
        return step, frames


def _selection(reducer: GridReducer, batch: int, thw: Size3, choice: Choice | None,
               sample: int) -> tuple[SelectionStep | None, int, int]:
    """What a selector kept, the frames after it and the size of the batch."""
    if choice is None or sample >= batch:
        return None, thw[0], batch
    count = thw[0] * thw[1] * thw[2]
    # Tokens that are their own numbers say which ones come through.
    numbers = torch.arange(count, dtype=torch.float64).expand(batch, -1).unsqueeze(-1)
    hard = Choice(choice.index.detach().cpu(), None, choice.scores.detach().cpu())
    kept, after = reducer.reduce(numbers, thw, hard)
    return SelectionStep(kept[sample, :, 0].long(), count), after[0], batch


def token_grid(model: nn.Module, size: Size3) -> Size3:
    """The grid T x H x W of patches that a host makes of clips.

    Args:
        model: Holds a ``patch_embed`` with a convolution ``projection`` of frames or of
            clips, as the hosts of mmaction2 do.
        size: Frames, height and width of the clips.

    Raises:
        ValueError: If it holds none.
    """
    stride = patch_projection(model).stride
    stride = (1, ) * (3 - len(stride)) + tuple(stride)
    return tuple(side // step for side, step in zip(size, stride, strict=True))


def patch_projection(model: nn.Module) -> nn.Module:
    """The convolution of frames or of clips that makes a host's patches.

    Raises:
        ValueError: If there is none.
    """
    for module in model.modules():
        projection = getattr(getattr(module, 'patch_embed', None), 'projection', None)
        if hasattr(projection, 'stride'):
            return projection
    raise ValueError(f'{type(model).__name__} has no patch_embed.projection: the grid '
                     'of its patches is not known')
