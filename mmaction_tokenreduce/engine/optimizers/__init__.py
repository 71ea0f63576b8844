# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Optimiser wrappers and their constructors, registered in mmaction's registries."""
from .cpu_amp_optim_wrapper import CPUAmpOptimWrapper
from .flat_decay_constructor import FlatDecayConstructor

__all__ = ['CPUAmpOptimWrapper', 'FlatDecayConstructor']
