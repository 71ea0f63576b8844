# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Pictures of what a model keeps, merges and attends to."""
from .animation import play_overlays, play_selection
from .kept import KeptRegions, ScoreMaps
from .merge_trace import MergedTokens, MergeTrace
from .overlays import HeatOverlay, MergeOverlay, Overlay, plot_overlays
from .rollout import AttentionRollout
from .selection import SelectionRow, plot_selection
from .token_steps import token_grid
from .trace import SelectionTrace

__all__ = [
    'AttentionRollout', 'HeatOverlay', 'KeptRegions', 'MergeOverlay', 'MergeTrace',
    'MergedTokens', 'Overlay', 'ScoreMaps', 'SelectionRow', 'SelectionTrace',
    'play_overlays', 'play_selection', 'plot_overlays', 'plot_selection', 'token_grid'
]
