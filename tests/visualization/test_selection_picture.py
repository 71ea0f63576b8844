# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What a model kept, seen through hooks and drawn."""
import cv2
import numpy as np
import pytest
import torch

from mmaction_tokenreduce.layers import SpatialSelection, TemporalSelection
from mmaction_tokenreduce.visualization import (
    KeptRegions,
    SelectionRow,
    SelectionTrace,
    plot_selection,
)


class TwoSteps(torch.nn.Module):
    """Frames, then regions twice, as a host would run them."""

    def __init__(self, *reducers):
        super().__init__()
        self.reducers = torch.nn.ModuleList(reducers)

    def forward(self, x, thw):
        for reducer in self.reducers:
            x, thw = reducer(x, thw)
        return x, thw


def test_trace_says_which_pixels_are_left():
    """Every token holds its own place, so the output tells what was kept."""
    model = TwoSteps(TemporalSelection(4, 0.5), SpatialSelection(4, anchor=(6, 6)),
                     SpatialSelection(4, anchor=(3, 3))).eval()
    t, h, w = torch.meshgrid(torch.arange(6.), torch.arange(8.), torch.arange(8.),
                             indexing='ij')
    x = torch.stack((t, h, w, torch.randn(6, 8, 8)), -1).flatten(0, 2)
    x = torch.stack((x, x.roll(64, 0)))
    with SelectionTrace(model) as trace:
        y, thw = model(x, (6, 8, 8))
    assert thw == (3, 3, 3)
    for sample in range(2):
        kept = trace.kept(sample)
        left = y[sample].view(3, 9, 4)
        assert kept.num_frames == 6 and len(kept.scores) == 6
        shift = sample  # the second clip's frames were rolled by one
        assert [(f - shift) % 6 for f in kept.frames] == left[:, 0, 0].tolist()
        for box, tokens in zip(kept.boxes, left, strict=True):
            want = [tokens[0, 1] / 8, tokens[0, 2] / 8, (tokens[-1, 1] + 1) / 8,
                    (tokens[-1, 2] + 1) / 8]
            assert box == pytest.approx([float(v) for v in want])


def test_trace_without_hooks_left_behind_and_its_errors():
    with pytest.raises(ValueError, match='Linear holds no selector to watch'):
        SelectionTrace(torch.nn.Linear(2, 2))
    model = TwoSteps(TemporalSelection(4, 0.5))
    with SelectionTrace(model) as trace:
        with pytest.raises(ValueError, match='0 calls of 1 selectors'):
            trace.kept(0)
        model(torch.randn(1, 8, 4), (2, 2, 2))
        model(torch.randn(1, 8, 4), (2, 2, 2))
    with pytest.raises(ValueError, match='2 calls of 1 selectors'):
        trace.kept(0)
    assert not model.reducers[0]._forward_hooks


def test_everything_kept():
    model = TwoSteps(TemporalSelection(4, 1), SpatialSelection(4, 1))
    with SelectionTrace(model) as trace:
        model(torch.randn(1, 12, 4), (3, 2, 2))
    kept = trace.kept(0)
    assert kept == KeptRegions([0, 1, 2], [[0, 0, 1, 1]] * 3, 3, None)


def test_picture_darkens_what_was_dropped(tmp_path):
    images = np.full((2, 32, 32, 3), 200, np.uint8)
    kept = KeptRegions([1], [[0.0, 0.0, 0.5, 1.0]], 2, [0.1, 0.9])
    path = tmp_path / 'folder' / 'kept.png'
    plot_selection([SelectionRow(images, kept, 'a clip', [None, [0.2, 0.2, 0.4, 0.4]])],
                   path, 'heading')
    picture = cv2.imread(str(path))
    levels = np.unique(picture.reshape(-1, 3), axis=0, return_counts=True)
    area = {tuple(level): count for level, count in zip(*levels, strict=True)}
    bright, dark = area[(200, ) * 3], area[(44, ) * 3]
    assert 2.5 < dark / bright < 4.2  # three halves of a frame dark, one bright
    assert [p.name for p in path.parent.iterdir()] == ['kept.png']


def test_pictures_that_cannot_be_drawn(tmp_path):
    with pytest.raises(ValueError, match='at least one row'):
        plot_selection([], tmp_path / 'a.png')
    kept = KeptRegions([0], [[0, 0, 1, 1]], 2)
    row = SelectionRow(np.zeros((3, 8, 8, 3), np.uint8), kept, 'clip 7')
    with pytest.raises(ValueError, match='clip 7: 3 images for 2 token frames'):
        plot_selection([row], tmp_path / 'a.png')
    with pytest.raises(ValueError, match='abc'):
        good = SelectionRow(row.images[:2], row.kept, 'clip')
        plot_selection([good], tmp_path / 'a.abc')
    assert not list(tmp_path.iterdir())
