# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Datasets, registered in mmaction's DATASETS; ``moving_shapes`` makes demo data."""
from .video_dataset import BadVideoError, CheckedVideoDataset

__all__ = ['BadVideoError', 'CheckedVideoDataset']
