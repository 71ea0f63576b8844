# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Pictures of what a model keeps."""
from .animation import play_selection
from .kept import KeptRegions, ScoreMaps
from .selection import SelectionRow, plot_selection
from .trace import SelectionTrace

__all__ = [
    'KeptRegions', 'ScoreMaps', 'SelectionRow', 'SelectionTrace', 'play_selection',
    'plot_selection'
]
