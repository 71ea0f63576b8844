# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""The released STTS-VideoSwin to a recogniser around ``ReducedSwin3D`` with selectors.

The release pads kept frames in time: ``window_mode='padded'`` computes as it does.
"""
from collections.abc import Mapping, Sequence

from torch import Tensor

from .hosts import selector_rules
from .state_dict import Conversion, Target, convert_state_dict, target_shapes
from .video_swin import swin_rules

__all__ = ['convert_stts_swin']

_SOURCE = 'stts_swin'


def convert_stts_swin(state_dict: Mapping[str, Tensor], target: Target,
                      reducers: Sequence[Mapping] | None = None) -> Conversion:
    """Convert the weights of an STTS-VideoSwin.

    Args:
        state_dict: Released names to tensors, what files hold under ``state_dict``.
        target: A Recognizer3D around a ReducedSwin3D, or its names and shapes.
        reducers: See :func:`mmaction_tokenreduce.convert.hosts.selector_rules`.

    Raises:
        ValueError: If a key is unknown, missing or misshapen, if there are more or
            fewer selectors than score networks, or if their order cannot be known.
    """
    shapes = target_shapes(target)
    rules = swin_rules(shapes, _SOURCE)
    rules += selector_rules(state_dict, target, shapes, reducers, _SOURCE,
                            prefix='backbone.')
    return convert_state_dict(state_dict, rules, shapes, _SOURCE)
