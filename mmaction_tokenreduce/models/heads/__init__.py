# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Heads, registered in mmaction's MODELS."""
from .action_head import ActionHead
from .context_refinement_head import ContextRefinementHead
from .linear_action_head import LinearActionHead
from .verb_noun_head import VerbNounHead

__all__ = ['ActionHead', 'ContextRefinementHead', 'LinearActionHead', 'VerbNounHead']
