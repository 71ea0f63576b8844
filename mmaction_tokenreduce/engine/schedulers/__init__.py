# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Parameter schedulers, registered in mmaction's PARAM_SCHEDULERS."""
from .held_cosine_lr import HeldCosineLR

__all__ = ['HeldCosineLR']
