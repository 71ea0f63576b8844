# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Modules with parameters; they need torch only."""
from .actor_pooling import (
    REMAPS,
    ActorPooling,
    PyramidRoIAlign,
    places_of,
    restore_tokens,
)
from .context_refinement import ContextRefinement, DecoderBlock
from .grid_reducer import Carried, GridReducer, SelectionError
from .keyframe_pruning import PRUNING_STRATEGIES, KeyframePruning, Pruned, Pruning
from .linear import FastLinear, replace_linears
from .score_net import SCORE_NETS, PaperScoreNet, ReleasedScoreNet, min_max_normalize
from .spatial_selection import SpatialSelection
from .strategies import (
    STRATEGIES,
    Choice,
    CLSAttentionTopK,
    GumbelTopK,
    PerturbedTopK,
    RandomTopK,
    UniformTopK,
)
from .temporal_selection import TemporalSelection
from .token_merging import MERGE_STRATEGIES, Merge, TokenMerging

__all__ = [
    'MERGE_STRATEGIES', 'PRUNING_STRATEGIES', 'REMAPS', 'SCORE_NETS', 'STRATEGIES',
    'ActorPooling', 'CLSAttentionTopK', 'Carried', 'Choice', 'ContextRefinement',
    'DecoderBlock', 'FastLinear', 'GridReducer', 'GumbelTopK', 'KeyframePruning',
    'Merge', 'PaperScoreNet', 'PerturbedTopK', 'Pruned', 'Pruning', 'PyramidRoIAlign',
    'RandomTopK', 'ReleasedScoreNet', 'SelectionError', 'SpatialSelection',
    'TemporalSelection', 'TokenMerging', 'UniformTopK', 'min_max_normalize',
    'places_of', 'replace_linears', 'restore_tokens'
]
