# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Heads, registered in mmaction's MODELS."""
from .verb_noun_head import VerbNounHead

__all__ = ['VerbNounHead']
