# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Optimiser wrappers, registered in mmaction's OPTIM_WRAPPERS."""
from .cpu_amp_optim_wrapper import CPUAmpOptimWrapper

__all__ = ['CPUAmpOptimWrapper']
