# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Hooks for training runs, registered in mmaction's HOOKS."""
from .check_load_hook import CheckLoadHook
from .random_state_hook import RandomStateHook
from .sigma_decay_hook import SigmaDecayHook

__all__ = ['CheckLoadHook', 'RandomStateHook', 'SigmaDecayHook']
