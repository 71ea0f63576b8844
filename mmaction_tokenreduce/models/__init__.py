# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Models in mmaction's registry."""
from .backbones import (
    DVTMViT,
    DVTTimeSformer,
    ReducedMViT,
    ReducedSwin3D,
    ReducedTimeSformer,
    ReducedViT,
)
from .detection_data_preprocessor import DetectionDataPreprocessor
from .detectors import EVAD
from .heads import ContextRefinementHead, LinearActionHead, VerbNounHead
from .motion_blending import MotionBlending
from .motion_data_preprocessor import MotionDataPreprocessor
from .necks import KeyframePyramid
from .reducers import build_reducers
from .sparse_localizer import SparseLocalizer

__all__ = [
    'EVAD', 'ContextRefinementHead', 'DVTMViT', 'DVTTimeSformer',
    'DetectionDataPreprocessor', 'KeyframePyramid', 'LinearActionHead',
    'MotionBlending', 'MotionDataPreprocessor', 'ReducedMViT', 'ReducedSwin3D',
    'ReducedTimeSformer', 'ReducedViT', 'SparseLocalizer', 'VerbNounHead',
    'build_reducers'
]
