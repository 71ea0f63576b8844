# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Necks, registered in mmaction's MODELS."""
from .keyframe_pyramid import KeyframePyramid

__all__ = ['KeyframePyramid']
