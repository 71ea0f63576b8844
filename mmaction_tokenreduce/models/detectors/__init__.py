# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Detectors, registered in mmaction's MODELS."""
from .evad import EVAD

__all__ = ['EVAD']
