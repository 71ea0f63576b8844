# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Watching the selectors of a model with standard forward hooks."""
import numpy as np
from torch import Tensor, nn

from ..layers import GridReducer, SpatialSelection, TemporalSelection
from ..ops.grid import Size3
from .kept import KeptRegions, ScoreMaps, take_places, whole_frames
from .watch import DecisionWatch

__all__ = ['SelectionTrace']


class SelectionTrace(DecisionWatch):
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
        reducers = [m for m in model.modules() if isinstance(m, GridReducer)]
        if not reducers:
            raise ValueError(f'{type(model).__name__} holds no selector to watch: its '
                             'config has no reducers')
        super().__init__(reducers)

    def _see_call(self, module: GridReducer, args: tuple, output: tuple) -> None:
        self._seen.append((module, tuple(args[1]), self._decision))
        self._decision = None

    def kept(self, sample: int) -> KeptRegions:
        """What is left of the clip number ``sample`` of the batch after all selectors.

        Raises:
            ValueError: If the model was not run, or run more than once, or if it pools
                frames between two selectors.
        """
        seen = [call[0] for call in self._seen]
        if len(seen) != len(self._watched) or len(set(seen)) != len(seen):
            raise ValueError(f'{len(seen)} calls of {len(self._watched)} selectors '
                             'were recorded: run the model once, clear() in between')
        total = self._seen[0][1][0]
        frames, cells = np.arange(total), whole_frames(total)
        scores, maps = [], []
        for reducer, thw, choice in self._seen:
            if thw[0] != len(frames):
                raise ValueError(f'{len(frames)} token frames became {thw[0]} between '
                                 'two selectors: what a pooled frame shows is not '
                                 'followed')
            if choice is None:  # everything was kept
                continue
            ranks = reducer.choose.ranks_by is not None
            if isinstance(reducer, TemporalSelection):
                index = _numpy(choice.index[sample])
                if ranks:
                    ranked = np.full(total, np.nan)
                    ranked[frames] = _zero_to_one(_numpy(choice.scores[sample]))
                    scores.append(ranked.tolist())
                frames, cells = frames[index], cells[index]
            elif isinstance(reducer, SpatialSelection):
                index = _numpy(choice.index.unflatten(0, (-1, thw[0]))[sample])
                if ranks:
                    ranked = choice.scores.unflatten(0, (-1, thw[0]))[sample]
                    maps.append(_score_maps(reducer, thw, frames, _numpy(ranked),
                                            index))
                places = _places(reducer, thw[1:], index)
                cells = take_places(cells, thw[1:], places,
                                    reducer.kept_size(thw[1:]))
        return KeptRegions(frames.tolist(), cells, total, scores, maps)


def _places(reducer: SpatialSelection, hw: tuple[int, int],
            index: np.ndarray) -> np.ndarray:
    """(K, m) places of each frame that a choice ``index`` (K, 1 or m) keeps."""
    if reducer.unit == 'token':
        return index
    grid = reducer.anchors(hw)
    top, left = grid.corner(index)  # (K, 1)
    rows, columns = np.indices(grid.size).reshape(2, -1)
    return (top + rows) * hw[1] + left + columns


def _score_maps(reducer: SpatialSelection, thw: Size3, frames: np.ndarray,
                scores: np.ndarray, index: np.ndarray) -> ScoreMaps:
    token = reducer.unit == 'token'
    counts = thw[1:] if token else reducer.anchors(thw[1:]).counts
    return ScoreMaps(
        {frame: _zero_to_one(row).reshape(counts)
         for frame, row in zip(frames.tolist(), scores, strict=True)},
        {frame: [divmod(number, counts[1]) for number in row]
         for frame, row in zip(frames.tolist(), index.tolist(), strict=True)},
        reducer.unit)


def _zero_to_one(scores: np.ndarray) -> np.ndarray:
    """Scores of one ranking on a common scale: some strategies rank raw ones."""
    low, high = scores.min(), scores.max()
    return (scores - low) / (high - low) if high > low else np.zeros_like(scores)


def _numpy(values: Tensor) -> np.ndarray:
    values = values.detach().cpu()
    return (values.float() if values.is_floating_point() else values).numpy()
