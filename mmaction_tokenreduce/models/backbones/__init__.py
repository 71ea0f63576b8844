# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Hosts: mmaction2's video transformers with reducers."""
from .reduced_mvit import ReducedMViT
from .reduced_swin import ReducedSwin3D
from .reduced_timesformer import ReducedTimeSformer
from .reduced_vit import ReducedViT

__all__ = ['ReducedMViT', 'ReducedSwin3D', 'ReducedTimeSformer', 'ReducedViT']
