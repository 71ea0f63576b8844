# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Pictures of what a model keeps, merges, attends to, detects, and is told of motion.
"""
from .animation import play_overlays, play_selection
from .detection_picture import action_captions, draw_detections
from .kept import KeptRegions, ScoreMaps
from .merge_trace import MergedTokens, MergeTrace
from .motion_overlays import (
    FieldOverlay,
    FrameOverlay,
    ResidualOverlay,
    motion_overlays,
    token_fields,
)
from .overlays import HeatOverlay, MergeOverlay, Overlay, plot_overlays
from .point_picture import PointRow, plot_points
from .point_trace import PointTrace, SampledPoints, moving_place
from .pruning_picture import KeptOverlay, pruning_overlays
from .pruning_trace import PrunedGrid, PruningTrace
from .rollout import AttentionRollout
from .selection import SelectionRow, plot_selection
from .token_steps import token_grid
from .trace import SelectionTrace
from .video_file import VideoFile

__all__ = [
    'AttentionRollout', 'FieldOverlay', 'FrameOverlay', 'HeatOverlay', 'KeptOverlay',
    'KeptRegions', 'MergeOverlay', 'MergeTrace', 'MergedTokens', 'Overlay',
    'PointRow', 'PointTrace', 'PrunedGrid', 'PruningTrace', 'ResidualOverlay',
    'SampledPoints', 'ScoreMaps', 'SelectionRow', 'SelectionTrace', 'VideoFile',
    'action_captions', 'draw_detections', 'motion_overlays', 'moving_place',
    'play_overlays', 'play_selection', 'plot_overlays', 'plot_points',
    'plot_selection', 'pruning_overlays', 'token_fields', 'token_grid'
]
