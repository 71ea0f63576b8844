# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""The released STTS-MViT to a recogniser around ``ReducedMViT`` with selectors."""
from collections.abc import Mapping, Sequence

from torch import Tensor

from .hosts import selector_rules
from .slowfast_mvit import mvit_rules
from .state_dict import Conversion, Target, convert_state_dict, target_shapes

__all__ = ['convert_stts_mvit']

_SOURCE = 'stts_mvit'


def convert_stts_mvit(state_dict: Mapping[str, Tensor], target: Target,
                      reducers: Sequence[Mapping] | None = None) -> Conversion:
    """Convert the weights of an STTS-MViT.

    Args:
        state_dict: Released names to tensors, what files hold under ``model_state``.
        target: A Recognizer3D around a ReducedMViT, or its names and shapes.
        reducers: See :func:`mmaction_tokenreduce.convert.hosts.selector_rules`.

    Raises:
        ValueError: If a key is unknown, missing or misshapen, if there are more or
            fewer selectors than score networks, or if their order cannot be known.
    """
    shapes = target_shapes(target)
    rules = mvit_rules(shapes, _SOURCE)
    rules += selector_rules(state_dict, target, shapes, reducers, _SOURCE)
    return convert_state_dict(state_dict, rules, shapes, _SOURCE)
