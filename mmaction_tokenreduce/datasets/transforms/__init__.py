# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Pipeline transforms, registered in mmaction's TRANSFORMS."""
from .decode import MotionDecode, MotionInit
from .follow import FollowMotion
from .formatting import FormatMotion
from .keyframe_clip import SampleKeyframeClip
from .rand_augment import ColorRandAugment, RandAugment

__all__ = ['ColorRandAugment', 'FollowMotion', 'FormatMotion', 'MotionDecode',
           'MotionInit', 'RandAugment', 'SampleKeyframeClip']
