# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Models in mmaction's registry."""
from .backbones import ReducedMViT, ReducedSwin3D, ReducedTimeSformer, ReducedViT
from .reducers import build_reducers

__all__ = [
    'ReducedMViT', 'ReducedSwin3D', 'ReducedTimeSformer', 'ReducedViT', 'build_reducers'
]
