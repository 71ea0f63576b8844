# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Image ViTs, under timm's names, to the backbone of a video model that starts there.

Parts are copied, inflated or split, so a source name can have several places and a
place none. Both are settled first, under names that say so in brackets
(``blocks.0.norm1.bias [copy]``); the renaming is then as strict as any other.
"""
import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .state_dict import Conversion, Rule, Shapes, convert_state_dict, target_shapes

__all__ = ['convert_timm_vit']

_SOURCE = 'timm_vit'
_LAYERS = 'backbone.transformer_layers.layers.'
_CLASSES = 'the image model has other classes'
_INITIAL = {
    r'cls_head\..+': _CLASSES,
    r'backbone\.reducers\..+': 'the image model has no reducers',
}
_CLASSIFIER = Rule(r'(?:head|pre_logits)\..+', None, _CLASSES)
_PATCHES = Rule(r'patch_embed\.proj\.(weight|bias)(?: \[.+\])?',
                r'backbone.patch_embed.projection.\1')


def convert_timm_vit(state_dict: Mapping[str, Tensor], target: nn.Module) -> Conversion:
    """Make the backbone of a video model from an image ViT of the same patch grid.

    TimeSformer: the attention over space is the image's, that over time a copy of it
    behind a ``temporal_fc`` of zeros, time embeddings are zeros, as in TimeSformer
    (arXiv 2102.05095) and mmaction2. With divided attention and without reducers the
    result is the image model's class token, on a clip that stands still.

    VideoMAE's ViT: patches are inflated over a tubelet and divided by its length. The
    class token is dropped; the bias of keys too, which changes no softmax. Learned
    positions are those of the image in every token frame, fixed ones the model's own.

    The classifier and the reducers keep their initial values and are left out: loading
    needs ``allow_missing=['cls_head.', 'backbone.reducers.']`` of CheckLoadHook.

    Args:
        state_dict: timm's names to tensors.
        target: A Recognizer3D around a (Reduced)TimeSformer, dense or not, or around a
            (Reduced)ViT, VideoMAE's.

    Raises:
        ValueError: If the target is another model, or a key is unknown, missing or
            misshapen.
    """
    shapes = target_shapes(target)
    if f'{_LAYERS}0.ffns.0.layers.1.weight' in shapes:
        prepared, rules = _timesformer_sources(state_dict, shapes), _timesformer_rules(
            divided=f'{_LAYERS}0.attentions.1.norm.weight' in shapes)
    elif 'backbone.blocks.0.mlp.layers.1.weight' in shapes:
        prepared = _vit_sources(state_dict, target.backbone.pos_embed, shapes)
        rules = _vit_rules('fc_norm' if 'backbone.fc_norm.weight' in shapes else 'norm')
    else:
        raise ValueError(f'{_SOURCE}: the model must be a recogniser around a '
                         'ReducedTimeSformer or a ReducedViT')
    return convert_state_dict(prepared, [*rules, _CLASSIFIER, _PATCHES], shapes,
                              _SOURCE, _INITIAL)


def _timesformer_sources(state_dict: Mapping[str, Tensor],
                         shapes: Shapes) -> dict[str, Tensor]:
    """The source, with copies for attention over time and zeros for what is new."""
    prepared = dict(state_dict)
    for name, value in state_dict.items():
        block = re.fullmatch(r'blocks\.(\d+)\.(?:norm1|attn)\..+', name)
        if block and f'{_LAYERS}{block[1]}.attentions.0.temporal_fc.weight' in shapes:
            prepared[f'{name} [copy]'] = value
    for name, shape in shapes.items():
        if name == 'backbone.time_embed' or '.temporal_fc.' in name:
            prepared[f'{name} [zeros]'] = torch.zeros(shape)
    return prepared


def _timesformer_rules(divided: bool) -> list[Rule]:
    block = r'blocks\.(\d+)\.'

    def attention(old: str, place: int, norm: str) -> list[Rule]:
        """norm1 and attn, whose names have ``old`` at their end."""
        start = rf'{_LAYERS}\1.attentions.{place}.attn'
        return [
            Rule(rf'{block}norm1\.(\w+){old}', rf'{_LAYERS}\1.{norm}.\2'),
            Rule(rf'{block}attn\.qkv\.(\w+){old}', rf'{start}.in_proj_\2'),
            Rule(rf'{block}attn\.proj\.(\w+){old}', rf'{start}.out_proj.\2'),
        ]

    if divided:
        rules = attention('', 1, 'attentions.1.norm')
        rules += attention(r' \[copy\]', 0, 'attentions.0.norm')
    else:
        rules = attention('', 0, 'norms.0')
    norm2 = 'ffns.0.norm' if divided else 'norms.1'
    return rules + [
        Rule(rf'{block}norm2\.(.+)', rf'{_LAYERS}\1.{norm2}.\2'),
        Rule(rf'{block}mlp\.fc1\.(.+)', rf'{_LAYERS}\1.ffns.0.layers.0.0.\2'),
        Rule(rf'{block}mlp\.fc2\.(.+)', rf'{_LAYERS}\1.ffns.0.layers.1.\2'),
        Rule(r'(cls_token|pos_embed|norm\..+)', r'backbone.\1'),
        Rule(r'(backbone\..+) \[zeros\]', r'\1'),
    ]


def _vit_sources(state_dict: Mapping[str, Tensor], positions: Tensor,
                 shapes: Shapes) -> dict[str, Tensor]:
    """The source with inflated patches, split biases, and positions that fit."""
    prepared = {}
    for name, value in state_dict.items():
        if name == 'patch_embed.proj.weight' and value.dim() == 4:
            frames = shapes['backbone.patch_embed.projection.weight'][2]
            prepared[f'{name} [inflated over {frames} frames]'] = (
                value.unsqueeze(2).repeat(1, 1, frames, 1, 1) / frames)
        elif name.endswith('.attn.qkv.bias'):
            for part, bias in zip('qkv', value.chunk(3), strict=False):
                prepared[f'{name} [{part}]'] = bias
        elif name == 'pos_embed' and isinstance(positions, nn.Parameter):
            places = value[:, 1:]  # the first is the class token's
            frames = positions.shape[1] // max(places.shape[1], 1)
            prepared[f'{name} [in {frames} frames]'] = places.repeat(1, frames, 1)
        else:
            prepared[name] = value
    if not isinstance(positions, nn.Parameter):
        prepared["backbone.pos_embed [the model's own]"] = positions.detach()
    return prepared


def _vit_rules(norm: str) -> list[Rule]:
    block, new = r'blocks\.(\d+)\.', r'backbone.blocks.\1.'
    return [
        Rule(rf'{block}(norm[12]\..+|attn\.qkv\.weight|attn\.proj\..+)', rf'{new}\2'),
        Rule(rf'{block}attn\.qkv\.bias \[([qv])\]', rf'{new}attn.\2_bias'),
        Rule(rf'{block}attn\.qkv\.bias \[k\]', None,
             'it adds the same to all logits of a query, which the softmax takes out'),
        Rule(rf'{block}ls([12])\.gamma', rf'{new}gamma_\2'),
        Rule(rf'{block}mlp\.fc1\.(.+)', rf'{new}mlp.layers.0.0.\2'),
        Rule(rf'{block}mlp\.fc2\.(.+)', rf'{new}mlp.layers.1.\2'),
        Rule(r'(?:fc_)?norm\.(.+)', rf'backbone.{norm}.\1'),
        Rule(r'(?:backbone\.)?pos_embed \[.+\]', 'backbone.pos_embed'),
        Rule('pos_embed', None, "the model's positions are fixed"),
        Rule('cls_token', None, 'the model has no class token'),
    ]
