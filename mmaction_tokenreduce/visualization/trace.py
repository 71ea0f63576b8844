# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Watching the selectors of a model with standard forward hooks."""
from types import TracebackType

import torch
from torch import nn

from ..layers import Choice, GridReducer, SpatialSelection, TemporalSelection
from ..ops.grid import Size3
from .selection import KeptRegions


class SelectionTrace:
    """Records what the selectors of a model keep while it runs.

    ::

        with SelectionTrace(model) as trace:
            model(clip)
        trace.kept(sample=0)

    Args:
        model: Any module that holds grid reducers.

    Raises:
        ValueError: If it holds none.
    """

    def __init__(self, model: nn.Module) -> None:
        self._reducers = [m for m in model.modules() if isinstance(m, GridReducer)]
        if not self._reducers:
            raise ValueError(f'{type(model).__name__} holds no selector to watch: its '
                             'config has no reducers')
        self._handles = []
        self.clear()

    def clear(self) -> None:
        """Forget what was recorded; do so before another batch."""
        self._calls: list[tuple[GridReducer, Size3, Choice | None]] = []
        self._choice: Choice | None = None

    def __enter__(self) -> 'SelectionTrace':
        for reducer in self._reducers:
            self._handles += [
                reducer.choose.register_forward_hook(self._see_choice),
                reducer.register_forward_hook(self._see_call)
            ]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _see_choice(self, module: nn.Module, args: tuple, output: Choice) -> None:
        self._choice = output

    def _see_call(self, module: GridReducer, args: tuple, output: tuple) -> None:
        self._calls.append((module, tuple(args[1]), self._choice))
        self._choice = None

    def kept(self, sample: int) -> KeptRegions:
        """What is left of the clip number ``sample`` of the batch after all selectors.

        Raises:
            ValueError: If the model was not run, or run more than once.
        """
        seen = [call[0] for call in self._calls]
        if len(seen) != len(self._reducers) or len(set(seen)) != len(seen):
            raise ValueError(f'{len(seen)} calls of {len(self._reducers)} selectors '
                             'were recorded: run the model once, clear() in between')
        total = self._calls[0][1][0]
        frames = torch.arange(total)
        boxes = torch.tensor([0., 0., 1., 1.]).repeat(len(frames), 1)
        scores = None
        for reducer, thw, choice in self._calls:
            if choice is None:  # everything was kept
                continue
            if isinstance(reducer, TemporalSelection):
                if thw[0] == total and reducer.score_net is not None:
                    scores = choice.scores[sample].float().cpu()
                index = choice.index[sample].cpu()
                frames, boxes = frames[index], boxes[index]
            elif isinstance(reducer, SpatialSelection):
                anchors = choice.index.view(-1, thw[0])[sample].cpu()
                boxes = _crop(boxes, reducer, thw, anchors)
        return KeptRegions(frames.tolist(), boxes.tolist(), total,
                           None if scores is None else scores.tolist())


def _crop(boxes: torch.Tensor, reducer: SpatialSelection, thw: Size3,
          anchors: torch.Tensor) -> torch.Tensor:
    """Boxes (K, 4) as top, left, bottom, right shares, cropped to their anchors."""
    grid = reducer.anchors(thw[1:])
    top, left = grid.corner(anchors)
    inner = torch.stack((top / thw[1], left / thw[2], (top + grid.size[0]) / thw[1],
                         (left + grid.size[1]) / thw[2]), dim=1)
    corner, size = boxes[:, :2].repeat(1, 2), (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    return corner + inner * size
