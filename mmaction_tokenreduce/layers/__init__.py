# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Modules with parameters; they need torch only."""
from .linear import FastLinear, replace_linears
from .score_net import SCORE_NETS, PaperScoreNet, ReleasedScoreNet, min_max_normalize
from .selection import (
    GridReducer,
    SelectionError,
    SpatialSelection,
    TemporalSelection,
)
from .strategies import STRATEGIES, Choice, PerturbedTopK, RandomTopK, UniformTopK

__all__ = [
    'SCORE_NETS', 'STRATEGIES', 'Choice', 'FastLinear', 'GridReducer', 'PaperScoreNet',
    'PerturbedTopK', 'RandomTopK', 'ReleasedScoreNet', 'SelectionError',
    'SpatialSelection', 'TemporalSelection', 'UniformTopK', 'min_max_normalize',
    'replace_linears'
]
