# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Reading frames and motion from a compressed video, with PyAV."""
from .flow import FLOW_METHODS, flow_fields
from .reader import Decoded, MotionReader, grid_size

__all__ = ['FLOW_METHODS', 'Decoded', 'MotionReader', 'flow_fields', 'grid_size']
