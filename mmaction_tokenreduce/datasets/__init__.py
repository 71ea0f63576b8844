# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Datasets and transforms, registered with mmaction; ``moving_shapes`` makes demo data.
"""
from .annotated_clips import Diving48Dataset
from .epic_kitchens import EpicKitchensDataset
from .motion_dataset import MotionVideoDataset
from .transforms import (
    ColorRandAugment,
    FollowMotion,
    FormatMotion,
    MotionDecode,
    MotionInit,
)
from .video_dataset import BadVideoError, CheckedVideoDataset

__all__ = ['BadVideoError', 'CheckedVideoDataset', 'ColorRandAugment',
           'Diving48Dataset', 'EpicKitchensDataset', 'FollowMotion', 'FormatMotion',
           'MotionDecode', 'MotionInit', 'MotionVideoDataset']
