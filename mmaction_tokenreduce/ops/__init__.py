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
from .merging import bipartite_match, correspondence, keep_attentive, merge
from .orthogonal import orthogonal_select
from .topk import gumbel_topk, hard_topk, one_hot_rows, perturbed_topk

__all__ = [
    'AnchorGrid', 'Places', 'anchor_features', 'anchor_grid', 'anchor_scores',
    'anchor_size', 'bipartite_match', 'correspondence', 'gumbel_topk', 'hard_topk',
    'keep_attentive', 'keep_frames', 'keep_regions', 'keep_tokens', 'linear', 'merge',
    'mix_frames', 'mix_regions', 'mix_tokens', 'one_hot_rows', 'orthogonal_select',
    'perturbed_topk', 'split_extra'
]
