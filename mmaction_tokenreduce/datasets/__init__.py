# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Datasets and transforms, registered with mmaction; ``moving_shapes`` makes demo data.
"""
from .action_tubes import ActionTubeDataset
from .annotated_clips import Diving48Dataset
from .ava import CheckedAVADataset, CheckedAVAKineticsDataset
from .epic_kitchens import EpicKitchensDataset
from .motion_dataset import MotionVideoDataset
from .transforms import (
    ColorRandAugment,
    FollowMotion,
    FormatMotion,
    MotionDecode,
    MotionInit,
    RandAugment,
    SampleKeyframeClip,
)
from .video_dataset import BadVideoError, CheckedVideoDataset

__all__ = ['ActionTubeDataset', 'BadVideoError', 'CheckedAVADataset',
           'CheckedAVAKineticsDataset', 'CheckedVideoDataset', 'ColorRandAugment',
           'Diving48Dataset', 'EpicKitchensDataset', 'FollowMotion', 'FormatMotion',
           'MotionDecode', 'MotionInit', 'MotionVideoDataset', 'RandAugment',
           'SampleKeyframeClip']
