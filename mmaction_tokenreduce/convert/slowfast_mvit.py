# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""PySlowFast's MViTv1 (``MVIT_B_16x4_CONV``) to a recogniser around ``ReducedMViT``."""
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

__all__ = ['convert_slowfast_mvit', 'mvit_rules']

_SOURCE = 'slowfast_mvit'


def convert_slowfast_mvit(state_dict: Mapping[str, Tensor],
                          target: Target) -> Conversion:
    """Convert the weights of a dense MViTv1 with separable position embeddings.

    Args:
        state_dict: Released names to tensors, what files hold under ``model_state``.
        target: A Recognizer3D around a dense ReducedMViT, or its names and shapes.

    Raises:
        ValueError: If a key is unknown, missing or misshapen.
    """
    shapes = target_shapes(target)
    return convert_state_dict(state_dict, mvit_rules(shapes, _SOURCE), shapes, _SOURCE)


def mvit_rules(shapes: Shapes, source: str) -> list[Rule]:
    """Rules for all that the dense model has.

    Args:
        shapes: Names and shapes of the target.
        source: The converter's name, for messages.

    Raises:
        ValueError: If the target has no single final norm ``backbone.norm<scale>``.
    """
    norm = final_norm(shapes, source, 'ReducedMViT')
    return [
        Rule(r'(cls_token|pos_embed_(?:spatial|temporal|class))', r'backbone.\1'),
        Rule(r'patch_embed\.proj\.(.+)', r'backbone.patch_embed.projection.\1'),
        Rule(r'(blocks\.\d+\..+)', r'backbone.\1'),
        Rule(r'norm\.(.+)', rf'{norm}.\1'),
        Rule(r'head\.projection\.(.+)', r'cls_head.fc_cls.\1'),
    ]
