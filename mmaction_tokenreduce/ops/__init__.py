# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Functions on tensors; they need torch only."""
from .grid import (
                   AnchorGrid,
                   Places,
                   anchor_grid,
                   anchor_scores,
                   anchor_size,
                   keep_frames,
                   keep_regions,
                   mix_frames,
                   mix_regions,
                   split_extra,
)
from .linear import linear
from .topk import hard_topk, one_hot_rows, perturbed_topk

__all__ = [
    'AnchorGrid', 'Places', 'anchor_grid', 'anchor_scores', 'anchor_size', 'hard_topk',
    'keep_frames', 'keep_regions', 'linear', 'mix_frames', 'mix_regions',
    'one_hot_rows', 'perturbed_topk', 'split_extra'
]
