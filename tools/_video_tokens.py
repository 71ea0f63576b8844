# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What reducers do to the tokens of a window, drawn over whole frames of a video.

Legend: B windows of a batch, V views of each (crops), F sampled frames of a window.
"""
from collections.abc import Sequence
from typing import Any

import numpy as np
from _video_windows import WindowPipeline
from torch import Tensor, nn

from mmaction_tokenreduce.layers import GridReducer, KeyframePruning, TokenMerging
from mmaction_tokenreduce.visualization import (
    KeptOverlay,
    KeptRegions,
    MergeOverlay,
    MergeTrace,
    Overlay,
    PruningTrace,
    SelectionTrace,
    token_grid,
)
from mmaction_tokenreduce.visualization.drawing import dim
from mmaction_tokenreduce.visualization.kept import Box

COLORED = 8  # merged tokens
FRAME_COLOR = 255, 255, 255


class SelectionOverlay(Overlay):
    """Dropped places dark.

    Args:
        kept: What selectors left of a clip.
    """

    def __init__(self, kept: KeptRegions) -> None:
        self.kept, self.num_frames = kept, kept.num_frames
        self.title = f'kept: {kept.summary()}; dropped: dark'

    def paint(self, image: np.ndarray, t: int) -> np.ndarray:
        return dim(image, self.kept, t)


def find_trace(model: nn.Module) -> Any:
    """What watches the reducers of a model; None where it has none that are drawn."""
    modules = list(model.modules())
    if any(isinstance(m, TokenMerging) and m.ratio for m in modules):
        return MergeTrace(model)
    if any(isinstance(m, KeyframePruning) for m in modules):
        return PruningTrace(model)
    if any(isinstance(m, GridReducer) for m in modules):
        return SelectionTrace(model)
    return None


class TokenDrawing:
    """Watches a model and draws what it did to the tokens of one view of each window:
    what is left at the end, or was merged.

    Of several views it is the one in the middle of the frame.

    Args:
        model: The model.
        trace: What watches it.
        pipeline: The test pipeline.
    """

    def __init__(self, model: nn.Module, trace: Any, pipeline: WindowPipeline) -> None:
        self.model, self.trace, self.pipeline = model, trace, pipeline
        self._size: tuple[int, int] | None = None
        self._view, self._box = 0, (0., 0., 1., 1.)
        self._padding = 1., 1.  # sides of what the model takes over those of a view

    def begin(self, size: tuple[int, int]) -> None:
        """Get ready for a batch of frames (height, width)."""
        self.trace.clear()
        if size != self._size:
            self._size = size
            self._view, self._box = _central(self.pipeline.views(size))

    def look(self, packed: Sequence[dict[str, Any]],
             samples: Sequence[Any]) -> list[Overlay]:
        """What there is to draw of each window of the batch that the model has seen.

        Args:
            packed: What the pipeline packed.
            samples: What the model made of them.
        """
        inputs: Tensor = packed[0]['inputs']
        views = len(inputs) if inputs.ndim == 5 else 1
        size = tuple(inputs.shape[-3:])
        padded = samples[0].metainfo.get('batch_input_shape', size[1:])
        self._padding = tuple(np.divide(padded, size[1:]))
        return [self._overlay(number * views + self._view, (size[0], *padded))
                for number in range(len(samples))]

    def _overlay(self, clip: int, size: tuple[int, int, int]) -> Overlay:
        if isinstance(self.trace, SelectionTrace):
            return SelectionOverlay(self.trace.kept(clip))
        grid = token_grid(self.model, size)
        if isinstance(self.trace, PruningTrace):
            left = self.trace.pruned(clip, grid)[-1]
            title = f'kept {left.summary()}; dropped: dark'
            return KeptOverlay(left.kept, left.keyframe, title)
        merged = self.trace.merged(clip, grid)
        title = f'{merged.summary()}; coloured: the {COLORED} largest'
        return MergeOverlay(merged, COLORED, title)

    def draw(self, image: np.ndarray, overlay: Overlay, sampled: int,
             frames: int) -> None:
        """Draw over the part of an image (H, W, 3) that the model saw; a line frames
        it where that is not all.

        Args:
            image: Changed in place.
            overlay: Of its window.
            sampled: Which sampled frame it stands for.
            frames: F.
        """
        height, width = image.shape[:2]
        top, bottom = (round(share * height) for share in self._box[::2])
        left, right = (round(share * width) for share in self._box[1::2])
        part = image[max(top, 0):bottom, max(left, 0):right]
        # the grid of tokens covers padding as well
        beyond = [(0, round((share - 1) * side)) for share, side in
                  zip(self._padding, part.shape[:2], strict=True)]
        painted = overlay.paint(np.pad(part, (*beyond, (0, 0)), mode='edge'),
                                sampled * overlay.num_frames // frames)
        painted = painted[:part.shape[0], :part.shape[1]]
        part[:] = (painted * 255).round().clip(0, 255)
        if part.shape != image.shape:
            part[[0, -1]] = FRAME_COLOR
            part[:, [0, -1]] = FRAME_COLOR


def _central(views: Sequence[Box]) -> tuple[int, Box]:
    """The view nearest to the middle of the frame, of those that are not flipped."""
    def distance(number: int) -> float:
        top, left, bottom, right = views[number]
        return abs(top + bottom - 1) + abs(left + right - 1)

    upright = [i for i, view in enumerate(views) if view[1] < view[3]]
    best = min(upright, key=distance)
    return best, views[best]
