# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""ViT with deformable attention (DVT, Sec. 4.1: "ViT-B", TimeSformer as the host).

A layer has one deformable attention instead of attention over time and over space.
Patches are tubelets, by default of two frames: 8 token frames of a 16-frame clip, at
the paper's cost (Table 4); with every frame embedded it would be twice that. There is
no class token: the mean of all tokens is what the classifier sees.

Legend: B batch, F sampled frames, T x H x W token grid, C channels.
"""
import re
from math import isqrt

import torch.nn.functional as F
from mmaction.models.backbones.timesformer import TimeSformer
from mmaction.registry import MODELS
from mmcv.cnn.bricks import DropPath
from mmcv.cnn.bricks.transformer import BaseTransformerLayer
from mmcv.cnn.bricks.wrappers import Linear as MMCVLinear
from mmengine.model import BaseModule, ModuleList
from mmengine.model.weight_init import trunc_normal_
from mmengine.registry import DefaultScope
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...layers import replace_linears
from ...layers.deformable_attention import DeformableAttention
from ...ops.sampling import query_places
from ..deformable import DeformableSettings, keep_values

_LAYER = r'transformer_layers\.layers\.(\d+)\.'


@MODELS.register_module()
class DVTTimeSformer(TimeSformer):
    """A ViT whose queries look where motion leads them.

    Its own arguments are listed here; the others are those of
    :class:`mmaction.models.TimeSformer`, less ``attention_type``, ``pretrained`` and
    ``transformer_layers``. Checkpoints of a TimeSformer, divided or joint, initialise
    what is shared: patches (inflated over a tubelet), positions (resized), norms, MLPs,
    and the projections of values and outputs, of a divided layer those over space.

    Args:
        num_frames: F, a multiple of ``tubelet_size``.
        tubelet_size: Frames of a patch; 1 embeds every frame.
        attention: ``'st'`` (D-ST-A), ``'ms'`` (D-MS-A) or ``'st+ms'``.
        fusion: Of ``'st+ms'``: ``'linear'`` or ``'mlp'``.
        points: N, for each head and frame, or map.
        sub_clips: B of the paper, a divisor of the token frames.
        cue: See :class:`DVTMViT`.
        motion_stride: Pixels on a side of a field's cell, a divisor of the patch.
        motion_unit: Pixels that count as 1 in the embedding of displacements.
        scale_stride: Spatial stride of D-MS-A's second map.
        with_cp: Recompute layers in the backward pass to save memory.

    Raises:
        ValueError: If an argument is not allowed.
    """

    def __init__(self,
                 num_frames: int,
                 *args,
                 tubelet_size: int = 2,
                 attention: str = 'st+ms',
                 fusion: str = 'mlp',
                 points: int = 8,
                 sub_clips: int = 4,
                 cue: str = 'motion',
                 motion_stride: int = 4,
                 motion_unit: float = 16.0,
                 scale_stride: int = 2,
                 with_cp: bool = False,
                 **kwargs) -> None:
        for name in ('attention_type', 'pretrained', 'transformer_layers'):
            if name in kwargs:
                hint = ' (set load_from)' if name == 'pretrained' else ''
                raise ValueError(f'DVTTimeSformer: {name} is not among its '
                                 f'arguments{hint}')
        if type(tubelet_size) is not int or tubelet_size < 1 or (
                num_frames % tubelet_size):
            raise ValueError(f'DVTTimeSformer: tubelet_size={tubelet_size}: must '
                             f'divide num_frames={num_frames}')
        with DefaultScope.overwrite_default_scope('mmaction'):  # where its layers are
            super().__init__(num_frames // tubelet_size, *args,
                             attention_type='joint_space_time', **kwargs)
        self.with_cp = with_cp
        self.deformable = DeformableSettings(
            'DVTTimeSformer', attention, fusion, points, sub_clips, cue, motion_stride,
            motion_unit, scale_stride)
        self.deformable.check_frames(self.num_frames)
        old = self.patch_embed.projection
        self.patch_embed.projection = nn.Conv3d(
            old.in_channels, old.out_channels, *[(tubelet_size, *old.kernel_size)] * 2)
        del self.cls_token
        self.pos_embed = nn.Parameter(self.pos_embed[:, 1:].detach().clone())
        layers = self.transformer_layers.layers
        self.transformer_layers.layers = ModuleList([
            DeformableLayer(layer, self.deformable, self.patch_embed.patch_size[0])
            for layer in layers])
        replace_linears(self, (nn.Linear, MMCVLinear))
        self.register_load_state_dict_pre_hook(_from_dense)

    def init_weights(self) -> None:
        """Positions at random; what is deformable by its own rules."""
        trunc_normal_(self.pos_embed, std=.02)
        for layer in self.transformer_layers.layers:
            layer.attn.init_weights()

    def forward(self, imgs: Tensor, motion: Tensor | None = None) -> Tensor:
        """Clips to the mean of their tokens (B, C).

        Args:
            imgs: (B, 3, F, H, W), normalised.
            motion: (B, 2, F, H / motion_stride, W / motion_stride), see
                :class:`DVTMViT`.

        Raises:
            ValueError: If frames, their size or fields do not fit.
        """
        self._check_size(imgs)
        cue = self.deformable.cues(imgs, motion, self.num_frames)
        x = self.patch_embed.projection(imgs).permute(0, 2, 3, 4, 1)  # (B, T, H, W, C)
        # A convolution leaves channels first, and every sum with it would as well.
        space = self.drop_after_pos(
            x.contiguous() + self.pos_embed.view(1, 1, *x.shape[2:4], -1))
        x = self.drop_after_time(space + self.time_embed[:, :, None, None])
        for layer in self.transformer_layers.layers:
            if self.with_cp and x.requires_grad:
                x = checkpoint(layer, x, cue, use_reentrant=False)
            else:
                x = layer(x, cue)
        return self.norm(x).mean((1, 2, 3))

    def _check_size(self, imgs: Tensor) -> None:
        frames = self.num_frames * self.patch_embed.projection.stride[0]
        size = (frames, *self.patch_embed.img_size)
        if tuple(imgs.shape[2:]) != size:
            raise ValueError(f'DVTTimeSformer: clips of '
                             f'{"x".join(map(str, imgs.shape[2:]))} (T x H x W), the '
                             f'position embeddings are for {"x".join(map(str, size))} '
                             '(num_frames, img_size)')


class DeformableLayer(BaseTransformerLayer):
    """A ViT layer around deformable attention, both parts with their norm in front.

    Args:
        dense: mmcv's layer, whose norms, MLP and drop path are taken over.
        settings: Of the attention.
        patch: Pixels on a side of a patch.
    """

    def __init__(self, dense: BaseTransformerLayer, settings: DeformableSettings,
                 patch: int) -> None:
        BaseModule.__init__(self, init_cfg=dense.init_cfg)
        old = dense.attentions[0]
        self.norms, self.ffns = dense.norms, dense.ffns
        self.drop_path = old.dropout_layer
        self.attn = settings.build(DeformableAttention, dim=old.embed_dims,
                                   num_heads=old.num_heads, patch=patch,
                                   stride=settings.scale_stride, centred=False)
        for module in self.modules():
            if isinstance(module, DropPath):
                # mmaction2 leaves a NumPy number, at which compilers break the graph.
                module.drop_prob = float(module.drop_prob)

    def forward(self, x: Tensor, cue: Tensor | None) -> Tensor:
        """Tokens (B, T, H, W, C) to the same."""
        normed = self.norms[0](x)
        base = query_places(x.shape[2:4], 1, x.device)
        out = self.attn(normed, normed.flatten(2, 3), base, x.flatten(2, 3), cue,
                        self.drop_path)
        return self.ffns[0](self.norms[1](out), out).view_as(x)


def _from_dense(module: DVTTimeSformer, state_dict: dict, prefix: str, *args) -> None:
    """Turn a TimeSformer's weights into those that deformable layers share with it."""
    state_dict.pop(f'{prefix}cls_token', None)
    _fit_embeddings(module, state_dict, prefix)
    names = [name for name in state_dict if name.startswith(prefix)]
    divided = {re.match(_LAYER, name[len(prefix):])[0] for name in names
               if name.endswith('.attentions.1.norm.weight')}
    for name in names:
        inner = name[len(prefix):]
        if re.match(rf'{_LAYER}attentions\.0\.(attn\.|norm\.|temporal_fc\.)', inner):
            if re.match(_LAYER, inner)[0] in divided:
                del state_dict[name]  # attention over time
                continue
        new = re.sub(rf'({_LAYER})attentions\.1\.norm\.', r'\1norms.0.', inner)
        new = re.sub(rf'({_LAYER})ffns\.0\.norm\.', r'\1norms.1.', new)
        new = re.sub(rf'({_LAYER})attentions\.[01]\.attn\.', r'\1attn.', new)
        if new != inner:
            state_dict[prefix + new] = state_dict.pop(name)
    for i, layer in enumerate(module.transformer_layers.layers):
        keep_values(state_dict, f'{prefix}transformer_layers.layers.{i}.attn.',
                    'in_proj_', 'out_proj.', layer.attn)


def _fit_embeddings(module: DVTTimeSformer, state_dict: dict, prefix: str) -> None:
    """Inflate patches over a tubelet; resize positions in space and time."""
    patches, space, time = (f'{prefix}{name}' for name in (
        'patch_embed.projection.weight', 'pos_embed', 'time_embed'))
    if patches in state_dict and state_dict[patches].dim() == 4:
        frames = module.patch_embed.projection.kernel_size[0]
        state_dict[patches] = state_dict[patches].unsqueeze(2).repeat(
            1, 1, frames, 1, 1) / frames
    if space in state_dict and state_dict[space].shape != module.pos_embed.shape:
        state_dict[space] = _resize_places(state_dict[space], module)
    if time in state_dict and state_dict[time].shape[1] != module.num_frames:
        state_dict[time] = F.interpolate(
            state_dict[time].transpose(1, 2), module.num_frames, mode='linear',
            align_corners=False).transpose(1, 2)


def _resize_places(table: Tensor, module: DVTTimeSformer) -> Tensor:
    """Positions (1, 1 + N, C) of a class token and a square grid, or without the token.

    What is neither is left as it is, and refused where shapes are compared.
    """
    length = table.shape[1]
    side = isqrt(length)
    if side * side != length:
        table, side = table[:, 1:], isqrt(length - 1)
        if side * side != length - 1:
            return table
    hw = tuple(size // patch for size, patch in zip(
        module.patch_embed.img_size, module.patch_embed.patch_size, strict=True))
    if (side, side) == hw:
        return table
    maps = table.unflatten(1, (side, side)).permute(0, 3, 1, 2)
    maps = F.interpolate(maps, hw, mode='bicubic', align_corners=False)
    return maps.flatten(2).transpose(1, 2)
