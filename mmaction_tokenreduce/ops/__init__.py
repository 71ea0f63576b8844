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
from .pruning import (
                   grid_places,
                   is_keyframe,
                   kept_count,
                   keyframe_first,
                   rank_order,
                   restore,
                   take_tokens,
)
from .topk import gumbel_topk, hard_topk, one_hot_rows, perturbed_topk

__all__ = [
    'AnchorGrid', 'Places', 'anchor_features', 'anchor_grid', 'anchor_scores',
    'anchor_size', 'bipartite_match', 'correspondence', 'grid_places', 'gumbel_topk',
    'hard_topk', 'is_keyframe', 'keep_attentive', 'keep_frames', 'keep_regions',
    'keep_tokens', 'kept_count', 'keyframe_first', 'linear', 'merge', 'mix_frames',
    'mix_regions', 'mix_tokens', 'one_hot_rows', 'orthogonal_select', 'perturbed_topk',
    'rank_order', 'restore', 'split_extra', 'take_tokens'
]
