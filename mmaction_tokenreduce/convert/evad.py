# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""The released EVAD to the detector ``EVAD``.

The release puts kept tokens back in a wrong order, and its weights were trained so: the
model needs ``action_head.remap='released'`` to compute what it does.
"""
from collections.abc import Mapping

from torch import Tensor, nn

from .state_dict import (
    Conversion,
    Rule,
    Target,
    convert_state_dict,
    target_shapes,
)
from .videomae import final_vit_norm, vit_rules

__all__ = ['convert_evad']

_SOURCE = 'evad'
_STAGE = {
    r'self_attn\.(in_proj_.+|out_proj\..+)': r'attention.attn.\2',
    r'inst_interact\.(dynamic_layer\..+)': r'instance_interactive_conv.\2',
    r'inst_interact\.norm1\.(.+)': r'instance_interactive_conv.norm_in.\2',
    r'inst_interact\.norm2\.(.+)': r'instance_interactive_conv.norm_out.\2',
    r'inst_interact\.norm3\.(.+)': r'instance_interactive_conv.fc_norm.\2',
    r'inst_interact\.out_layer\.(.+)': r'instance_interactive_conv.fc_layer.\2',
    r'norm1\.(.+)': r'attention_norm.\2',
    r'norm2\.(.+)': r'instance_interactive_conv_norm.\2',
    r'norm3\.(.+)': r'ffn_norm.\2',
    r'linear1\.(.+)': r'ffn.layers.0.0.\2',
    r'linear2\.(.+)': r'ffn.layers.1.\2',
    r'cls_module\.(.+)': r'cls_fcs.\2',
    r'reg_module\.(.+)': r'reg_fcs.\2',
    r'class_logits\.(.+)': r'fc_cls.\2',
    r'bboxes_delta\.(.+)': r'fc_reg.\2',
}
_DECODER = {
    r'(norm[12]\..+|attn\..+)': r'blocks.\1.\2',
    r'mlp\.fc1\.(.+)': r'blocks.\1.mlp.0.\2',
    r'mlp\.fc2\.(.+)': r'blocks.\1.mlp.2.\2',
    r'act_module\.(.+)': r'classifiers.\1.\2',
    r'action_logits\.(.+)': r'classifiers.\1.3.\2',
}


def convert_evad(state_dict: Mapping[str, Tensor], target: Target) -> Conversion:
    """Convert the weights of a released EVAD.

    Args:
        state_dict: Released names to tensors, what files hold under ``model_state``.
        target: A detector EVAD with a ContextRefinementHead, or its names and shapes.

    Raises:
        ValueError: If a key is unknown, missing or misshapen, or the model computes
            something else than the release with its weights.
    """
    prepared = dict(state_dict)
    if isinstance(target, nn.Module):
        remap = getattr(getattr(target, 'action_head', None), 'remap', None)
        if remap != 'released':
            raise ValueError(
                f"{_SOURCE}: the model's action_head has remap={remap!r}: the released "
                "weights were trained with remap='released'")
        prepared["backbone.pos_embed [the model's own]"] = target.backbone.pos_embed
    shapes = target_shapes(target)
    norm = final_vit_norm(shapes, _SOURCE)
    return convert_state_dict(prepared, _rules(norm), shapes, _SOURCE,
                              {r'backbone\.pos_embed': 'positions are fixed'})


def _rules(norm: str) -> list[Rule]:
    stages = [Rule(rf'det_head\.s0_headseries\.(\d+)\.{old}',
                   rf'localizer.stages.\1.{place}') for old, place in _STAGE.items()]
    decoder = [Rule(rf'det_head\.decoder\.blocks\.(\d+)\.{old}',
                    rf'action_head.decoder.{place}') for old, place in _DECODER.items()]
    fpn = [Rule(rf'fpn_{old}{level + 2}\.(.+)', rf'neck.1.{place}.{level}.conv.\1')
           for old, place in (('lateral', 'lateral_convs'), ('output', 'fpn_convs'))
           for level in range(4)]
    return [
        *vit_rules(),
        Rule(r'(backbone\.pos_embed) \[.+\]', r'\1'),
        Rule(r'norm\.(.+)', rf'{norm}.\1'),
        Rule(r'det_head\.(mask_token)', r'action_head.\1'),
        Rule(r'det_head\.encoder_to_decoder\.(.+)', r'action_head.project.\1'),
        Rule(r'init_proposal_features\.(.+)',
             r'localizer.proposals.init_proposal_features.\1'),
        Rule(r'init_proposal_boxes\.(.+)',
             r'localizer.proposals.init_proposal_bboxes.\1'),
        Rule(r'criterion\.empty_weight', None,
             'it is an option here, localizer.nobody_weight'),
        *stages, *decoder, *fpn,
    ]
