# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Hooks and optimiser wrappers; ``cli`` is what ``tools/`` run."""
from .hooks import CheckLoadHook, RandomStateHook, SigmaDecayHook
from .optimizers import CPUAmpOptimWrapper

__all__ = ['CPUAmpOptimWrapper', 'CheckLoadHook', 'RandomStateHook', 'SigmaDecayHook']
