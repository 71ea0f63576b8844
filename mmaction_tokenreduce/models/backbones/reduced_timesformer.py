# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""TimeSformer and ViT with reducers between their layers (STTM, Sec. 4; STTS).

The ViT of STTM is ``attention_type='joint_space_time'``. Before the first merge a
divided layer attends over time and over space; tokens that were merged share no places
between frames, so that from there on all attend to all, by the spatial weights, and
there is no temporal attention (STTM, Table 6: 121.6 M parameters become 107.4 M).

Legend: B batch, T frames, N places of a frame, M tokens of a clip, C channels.
"""
from collections.abc import Mapping, Sequence

import torch
from mmaction.models.backbones.timesformer import TimeSformer
from mmaction.registry import MODELS
from mmcv.cnn.bricks.wrappers import Linear as MMCVLinear
from mmengine.registry import DefaultScope
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...layers import TokenMerging, replace_linears
from ..reducers import Offer, Placed, build_reducers
from ..token_sequence import TokenSequence, check_order, reduce_tokens
from .timesformer_block import DividedLayer, JointLayer


@MODELS.register_module()
class ReducedTimeSformer(TimeSformer):
    """mmaction2's TimeSformer, handed fewer tokens.

    Its own arguments are listed here, the others are those of
    :class:`mmaction.models.TimeSformer`; checkpoints of that load unchanged, less the
    temporal attention of layers after a merge.

    Args:
        reducers: Configs of selectors and merges, each with ``before=i``, the layer it
            acts before, e.g. ``dict(type='TokenMerging', before=6, scope='frame')``.
        share_merging: Whether all merges, two or more, share their parameters, as the
            paper's text says; its parameter counts say that they do not.
        with_cp: Recompute layers in the backward pass to save memory.

    Raises:
        ValueError: If an argument is not allowed, a reducer stands beyond the depth, or
            cannot follow those before it.
    """

    def __init__(self,
                 *args,
                 reducers: Sequence[Mapping] = (),
                 share_merging: bool = False,
                 with_cp: bool = False,
                 **kwargs) -> None:
        with DefaultScope.overwrite_default_scope('mmaction'):  # where its layers are
            super().__init__(*args, **kwargs)  # names a misspelt argument
        self.with_cp = with_cp
        name, layers = type(self).__name__, self.transformer_layers.layers
        if reducers and self.attention_type == 'space_only':
            raise ValueError(f"{name}: attention_type='space_only' takes no reducers: "
                             'it has neither one class token a clip nor the time '
                             'embeddings that the motion feature needs; allowed are '
                             'divided_space_time, joint_space_time')
        first = {0: 'no attention has been computed there yet'}
        self.reducers, self._reducers_before, _ = build_reducers(
            reducers, Offer(name, [self.embed_dims] * len(layers), first, first,
                            merging=True))
        check_order(self._reducers_before, name)
        if share_merging:
            _share(self.reducers, name)
        merged_from = _first_merge(self._reducers_before, len(layers))
        for i, layer in enumerate(layers):
            layers[i] = (DividedLayer(layer, joint=i >= merged_from)
                         if self.attention_type == 'divided_space_time'
                         else JointLayer(layer))
        replace_linears(self, (nn.Linear, MMCVLinear))
        self.register_load_state_dict_pre_hook(_drop_temporal_attention)

    def forward(self, x: Tensor) -> Tensor:
        """Clips (B, 3, T, H, W) to class tokens (B, C).

        Raises:
            ValueError: If x is not of that shape, or frames or their size are not those
                of the model.
        """
        self._check_size(x)
        tokens = self._embed(x)
        scores = None
        for i, layer in enumerate(self.transformer_layers.layers):
            tokens = reduce_tokens(self._reducers_before.get(i, ()), tokens, scores)
            asked = any(_needs_attention(reducer)
                        for reducer in self._reducers_before.get(i + 1, ()))
            args = (tokens.x, tokens.num_frames, asked)
            if self.with_cp and tokens.x.requires_grad:
                x, scores = checkpoint(layer, *args, use_reentrant=False)
            else:
                x, scores = layer(*args)
            tokens = tokens._replace(x=x)
        if self.attention_type == 'space_only':
            x = x.unflatten(0, (-1, self.num_frames)).mean(1)
        return self.norm(x[:, 0])

    def _check_size(self, x: Tensor) -> None:
        size = (self.num_frames, *self.patch_embed.img_size)
        if x.dim() != 5:
            raise ValueError(f'{type(self).__name__}: clips must be (B, 3, T, H, W), '
                             f'got shape {tuple(x.shape)}')
        if tuple(x.shape[2:]) != size:
            raise ValueError(f'{type(self).__name__}: clips of '
                             f'{"x".join(map(str, x.shape[2:]))} (T x H x W), the '
                             f'position embeddings are for {"x".join(map(str, size))} '
                             '(num_frames, img_size)')

    def _embed(self, x: Tensor) -> TokenSequence:
        """Patches with their position embeddings, the class token in front."""
        batch, frames, (height, width) = len(x), x.shape[2], self.patch_embed.patch_size
        thw = (frames, x.shape[3] // height, x.shape[4] // width)
        x = self.patch_embed(x)  # (B*T, N, C)
        cls = self.cls_token + self.pos_embed[:, :1]
        position = self.pos_embed[:, 1:]
        x = self.drop_after_pos(x + position)
        cls = self.drop_after_pos(cls.expand(len(x), -1, -1))
        if self.attention_type == 'space_only':
            return TokenSequence(torch.cat((cls, x), 1), 1, None, frames, None)
        time = self.time_embed.transpose(0, 1)  # (T, 1, C)
        x = self.drop_after_time(x.unflatten(0, (batch, frames)) + time).flatten(1, 2)
        positions = None
        if any(isinstance(reducer, TokenMerging) and reducer.needs_positions
               for reducer in self.reducers):
            positions = (position + time).flatten(0, 1).expand(batch, -1, -1)
        return TokenSequence(torch.cat((cls[:batch], x), 1), 1, thw, frames, positions)


def _needs_attention(reducer: nn.Module) -> bool:
    if isinstance(reducer, TokenMerging):
        return reducer.needs_scores
    return reducer.needs_cls_attention


def _first_merge(placed: Placed, depth: int) -> int:
    """The layer before which tokens are first merged; ``depth`` if they are not."""
    return min((place for place, reducers in placed.items() for reducer in reducers
                if isinstance(reducer, TokenMerging) and reducer.ratio), default=depth)


def _share(reducers: nn.ModuleList, host: str) -> None:
    merges = [r for r in reducers if isinstance(r, TokenMerging) and r.phi is not None]
    if len(merges) < 2:
        raise ValueError(f'{host}: share_merging=True needs two merges that have '
                         f'parameters, there are {len(merges)}')
    for merging in merges[1:]:
        merging.share(merges[0])


def _drop_temporal_attention(module: ReducedTimeSformer, state_dict: dict, prefix: str,
                             *args) -> None:
    """Take out of a state dict the attention that layers after a merge do not have."""
    for i, layer in enumerate(module.transformer_layers.layers):
        if getattr(layer, 'joint', False):
            start = f'{prefix}transformer_layers.layers.{i}.attentions.0.'
            for name in [name for name in state_dict if name.startswith(start)]:
                del state_dict[name]
