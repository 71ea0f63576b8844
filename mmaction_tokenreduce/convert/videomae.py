# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""VideoMAE and VideoMAE v2, pre-trained or fine-tuned, to models around ReducedViT.

A pre-trained file holds the encoder under ``encoder.`` and a decoder that reconstructs
what was masked; a fine-tuned one holds the encoder alone and a classifier.
"""
import re
from collections.abc import Mapping

from torch import Tensor, nn

from .state_dict import (
    Conversion,
    Rule,
    Shapes,
    Target,
    convert_state_dict,
    target_shapes,
)

__all__ = ['convert_videomae', 'final_vit_norm', 'vit_rules']

_SOURCE = 'videomae'
_WRAPPED = r'(?:module\.)?'
_CLASSES = 'checkpoint and model have no classifier of equal size'
_INITIAL = {
    r'cls_head\..+': _CLASSES,
    r'backbone\.reducers\..+': 'the checkpoint has no reducers',
    r'(?!backbone\.|cls_head\.).+': 'the checkpoint is that of an encoder',
}


def convert_videomae(state_dict: Mapping[str, Tensor], target: Target) -> Conversion:
    """Convert the encoder of a VideoMAE, and the classifier where it fits.

    The last norm is the encoder's ``norm`` in pre-trained files and ``fc_norm`` in
    fine-tuned ones; it becomes the one that the model has (VideoMAE's own fine-tuning
    leaves the former out). Fixed positions are the model's own, files hold none. What
    the model has beside the backbone, a detector's parts or the classifier of other
    classes, keeps its initial values and is left out.

    Args:
        state_dict: Released names to tensors, what files hold under ``model`` or
            ``module``.
        target: A recogniser or detector around a ReducedViT, or its names and shapes
            (then fixed positions are left out).

    Raises:
        ValueError: If the model is another, or a key of the backbone is unknown,
            missing or misshapen.
    """
    shapes = target_shapes(target)
    norm = final_vit_norm(shapes, _SOURCE)
    prepared, initial = dict(state_dict), dict(_INITIAL)
    if isinstance(target, nn.Module):
        positions = target.backbone.pos_embed
        if not isinstance(positions, nn.Parameter):
            prepared["backbone.pos_embed [the model's own]"] = positions.detach()
    else:
        initial[r'backbone\.pos_embed'] = 'positions of a VideoMAE are fixed'
    if _classes(state_dict) == shapes.get('cls_head.fc_cls.weight'):
        classifier = Rule(rf'{_WRAPPED}head\.(.+)', r'cls_head.fc_cls.\1')
    else:
        classifier = Rule(rf'{_WRAPPED}head\..+', None, _CLASSES)
    encoder = rf'{_WRAPPED}(?:encoder\.)?'
    rules = [
        *vit_rules(encoder), classifier,
        Rule(rf'{encoder}(?:fc_)?norm\.(.+)', rf'{norm}.\1'),
        Rule(rf'{encoder}pos_embed', 'backbone.pos_embed'),
        Rule(r'(backbone\.pos_embed) \[.+\]', r'\1'),
        Rule(rf'{_WRAPPED}(?:decoder\..+|encoder_to_decoder\..+|mask_token)', None,
             'the decoder reconstructs what was masked in pre-training'),
    ]
    return convert_state_dict(prepared, rules, shapes, _SOURCE, initial)


def _classes(state_dict: Mapping[str, Tensor]) -> tuple[int, ...]:
    """Shape of the classifier, () where there is none."""
    for name, value in state_dict.items():
        if re.fullmatch(rf'{_WRAPPED}head\.weight', name):
            return tuple(value.shape)
    return ()


def final_vit_norm(shapes: Shapes, source: str) -> str:
    """Name of the norm after a ViT's last block.

    Args:
        shapes: Names and shapes of the target.
        source: The converter's name, for messages.

    Raises:
        ValueError: If the target has no VideoMAE ViT as its backbone.
    """
    norms = [name for name in ('backbone.fc_norm', 'backbone.norm')
             if f'{name}.weight' in shapes]
    if len(norms) != 1 or 'backbone.blocks.0.mlp.layers.1.weight' not in shapes:
        raise ValueError(f'{source}: the model must be a recogniser or detector around '
                         'a ReducedViT')
    return norms[0]


def vit_rules(prefix: str = '') -> list[Rule]:
    """Rules for patches and blocks of the encoder, as VideoMAE names them.

    Args:
        prefix: Regular expression, without groups, for what stands before the names.
    """
    block, new = rf'{prefix}blocks\.(\d+)\.', r'backbone.blocks.\1.'
    return [
        Rule(rf'{prefix}patch_embed\.proj\.(.+)',
             r'backbone.patch_embed.projection.\1'),
        Rule(rf'{block}(norm[12]\..+|attn\..+|gamma_[12])', rf'{new}\2'),
        Rule(rf'{block}mlp\.fc1\.(.+)', rf'{new}mlp.layers.0.0.\2'),
        Rule(rf'{block}mlp\.fc2\.(.+)', rf'{new}mlp.layers.1.\2'),
    ]
