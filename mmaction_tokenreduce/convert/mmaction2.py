# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""mmaction2's own checkpoints of a host: the names are ours already.

What conversion adds: every weight is checked against the model, and what else mmengine
keeps in a checkpoint (optimiser, message hub) stays behind.
"""
from collections.abc import Mapping

from torch import Tensor

from .state_dict import Conversion, Rule, Target, convert_state_dict, target_shapes

__all__ = ['convert_mmaction2']


def convert_mmaction2(state_dict: Mapping[str, Tensor], target: Target) -> Conversion:
    """Check the weights of an mmaction2 recogniser against ours.

    Args:
        state_dict: mmaction2's names to tensors, with ``module.`` in front where a
            wrapped model was saved.
        target: A recogniser around one of our hosts, or its names and shapes.

    Raises:
        ValueError: If a key is unknown, missing or misshapen.
    """
    rules = [Rule(r'(?:module\.)?(.+)', r'\1')]
    return convert_state_dict(state_dict, rules, target_shapes(target), 'mmaction2')
