# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Functions on tensors; they need torch only."""
from .grid import (
                   AnchorGrid,
                   Places,
                   anchor_features,
                   anchor_grid,
                   anchor_scores,
                   anchor_size,
                   keep_frames,
                   keep_regions,
                   keep_tokens,
                   mix_frames,
                   mix_regions,
                   mix_tokens,
                   split_extra,
)
from .linear import linear
from .topk import gumbel_topk, hard_topk, one_hot_rows, perturbed_topk

__all__ = [
    'AnchorGrid', 'Places', 'anchor_features', 'anchor_grid', 'anchor_scores',
    'anchor_size', 'gumbel_topk', 'hard_topk', 'keep_frames', 'keep_regions',
    'keep_tokens', 'linear', 'mix_frames', 'mix_regions', 'mix_tokens', 'one_hot_rows',
    'perturbed_topk', 'split_extra'
]
