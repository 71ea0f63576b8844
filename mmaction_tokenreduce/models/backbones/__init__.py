# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Hosts: mmaction2's video transformers with reducers, or deformable attention."""
from .dvt_mvit import DVTMViT
from .dvt_timesformer import DVTTimeSformer
from .reduced_mvit import ReducedMViT
from .reduced_swin import ReducedSwin3D
from .reduced_timesformer import ReducedTimeSformer
from .reduced_vit import ReducedViT

__all__ = ['DVTMViT', 'DVTTimeSformer', 'ReducedMViT', 'ReducedSwin3D',
           'ReducedTimeSformer', 'ReducedViT']
