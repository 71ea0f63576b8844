# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Video-Swin-Transformer's checkpoints to a recogniser around ``ReducedSwin3D``."""
from collections.abc import Mapping

from torch import Tensor

from .hosts import final_norm
from .state_dict import (
    Conversion,
    Rule,
    Shapes,
    Target,
    convert_state_dict,
    target_shapes,
)

__all__ = ['convert_video_swin', 'swin_rules']

_SOURCE = 'video_swin'


def convert_video_swin(state_dict: Mapping[str, Tensor], target: Target) -> Conversion:
    """Convert the weights of a dense Video Swin recogniser.

    Args:
        state_dict: Released names to tensors, what files hold under ``state_dict``.
        target: A Recognizer3D around a dense ReducedSwin3D, or its names and shapes.

    Raises:
        ValueError: If a key is unknown, missing or misshapen.
    """
    shapes = target_shapes(target)
    return convert_state_dict(state_dict, swin_rules(shapes, _SOURCE), shapes, _SOURCE)


def swin_rules(shapes: Shapes, source: str) -> list[Rule]:
    """Rules for all that the dense model has.

    Args:
        shapes: Names and shapes of the target.
        source: The converter's name, for messages.

    Raises:
        ValueError: If the target has no single final norm ``backbone.norm<stage>``.
    """
    norm = final_norm(shapes, source, 'ReducedSwin3D')
    return [
        Rule(r'(backbone\.(?:patch_embed|layers)\..+)', r'\1'),
        Rule(r'backbone\.norm\.(.+)', rf'{norm}.\1'),
        Rule(r'(cls_head\.fc_cls\..+)', r'\1'),
    ]
