# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Models in mmaction's registry."""
from .backbones import ReducedMViT
from .reducers import build_reducers

__all__ = ['ReducedMViT', 'build_reducers']
