# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Hooks, optimiser wrappers and schedulers; ``cli`` is what ``tools/`` run."""
from .hooks import CheckLoadHook, RandomStateHook, SigmaDecayHook
from .optimizers import CPUAmpOptimWrapper, FlatDecayConstructor
from .schedulers import HeldCosineLR

__all__ = [
    'CPUAmpOptimWrapper', 'CheckLoadHook', 'FlatDecayConstructor', 'HeldCosineLR',
    'RandomStateHook', 'SigmaDecayHook'
]
