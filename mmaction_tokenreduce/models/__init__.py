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
from .heads import VerbNounHead
from .motion_blending import MotionBlending
from .motion_data_preprocessor import MotionDataPreprocessor
from .reducers import build_reducers

__all__ = [
    'DVTMViT', 'DVTTimeSformer', 'MotionBlending', 'MotionDataPreprocessor',
    'ReducedMViT', 'ReducedSwin3D', 'ReducedTimeSformer', 'ReducedViT',
    'VerbNounHead', 'build_reducers'
]
