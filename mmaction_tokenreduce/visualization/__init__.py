# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Pictures of what a model keeps."""
from .selection import KeptRegions, SelectionRow, plot_selection
from .trace import SelectionTrace

__all__ = ['KeptRegions', 'SelectionRow', 'SelectionTrace', 'plot_selection']
