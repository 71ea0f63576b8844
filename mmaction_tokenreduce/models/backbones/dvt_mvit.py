# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""MViT with deformable attention (DVT, Sec. 3.2 and 4.1).

The host is MViTv1 without a class token; its attention gives way to
:class:`~mmaction_tokenreduce.layers.DeformableAttention`. Where a block downscales its
queries are pooled as in MViT, and values are sampled from the map before pooling.

Legend: B batch, F sampled frames, T x H x W token grid, C channels.
"""
from mmaction.models.backbones.mvit import MultiScaleBlock
from mmaction.registry import MODELS
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...layers.deformable_attention import DeformableAttention
from ...ops.grid import Size3
from ...ops.pooling import depthwise_conv3d
from ...ops.sampling import query_places
from ..deformable import DeformableSettings, keep_values
from .multiscale_block import FusedBlock, pooled_size
from .reduced_mvit import ReducedMViT

_FIXED = dict(with_cls_token=False, output_cls_token=False, rel_pos_embed=False,
              residual_pooling=False, dim_mul_in_attention=False,
              pool_query='downscale', reducers=(), qkv_bias=True)


@MODELS.register_module()
class DVTMViT(ReducedMViT):
    """MViT whose queries look where motion leads them.

    Its own arguments are listed here. The others are those of :class:`ReducedMViT`,
    less the class token, relative positions, residual pooling, widening in attention,
    pooled keys and reducers, which it does not have. Checkpoints of a dense MViT
    initialise what is shared: patches, positions, norms, MLPs, the pools of queries,
    and the projections of values and outputs.

    Args:
        attention: ``'st'`` (D-ST-A), ``'ms'`` (D-MS-A) or ``'st+ms'``.
        fusion: Of ``'st+ms'``: ``'linear'`` or ``'mlp'``.
        points: N, for each head and frame, or map.
        sub_clips: B of the paper, a divisor of the token frames.
        cue: What D-ST-A is told about motion: ``'motion'``, ``'rgb_residual'``,
            ``'rgb_difference'``, ``'rgb_average'``.
        motion_stride: Pixels on a side of a field's cell, a divisor of the patches'
            stride.
        motion_unit: Pixels that count as 1 in the embedding of displacements.
        scale_stride: Spatial stride of D-MS-A's second map in the first stage, halved
            at each that follows.

    Raises:
        ValueError: If an argument is not allowed.
    """

    def __init__(self,
                 *args,
                 attention: str = 'st',
                 fusion: str = 'mlp',
                 points: int = 8,
                 sub_clips: int = 4,
                 cue: str = 'motion',
                 motion_stride: int = 4,
                 motion_unit: float = 16.0,
                 scale_stride: int = 8,
                 **kwargs) -> None:
        for name, value in _FIXED.items():
            if kwargs.setdefault(name, value) != value:
                raise ValueError(f'DVTMViT: {name}={kwargs[name]!r}: allowed is '
                                 f'{value!r}')
        if 'adaptive_kv_stride' in kwargs:
            raise ValueError('DVTMViT: adaptive_kv_stride is not among its arguments: '
                             'it has no keys')
        super().__init__(*args, **kwargs)
        self.deformable = DeformableSettings(
            'DVTMViT', attention, fusion, points, sub_clips, cue, motion_stride,
            motion_unit, scale_stride)
        self.deformable.check_frames(self.patch_resolution[0])
        patch, stride, blocks = self.patch_embed.projection.stride[1], scale_stride, []
        for block in self.blocks:
            patch, stride = patch * block.stride[1], stride // block.stride[1]
            blocks.append(DeformableBlock(block, self.deformable, patch,
                                          max(stride, 1)))
        self.blocks = ModuleList(blocks)
        self._last_patch = patch
        self.register_load_state_dict_pre_hook(_from_dense)

    def forward(self, imgs: Tensor, motion: Tensor | None = None) -> tuple[Tensor, ...]:
        """Clips to features of the scales ``out_scales``.

        Args:
            imgs: (B, 3, F, H, W), normalised.
            motion: (B, 2, F, H / motion_stride, W / motion_stride), displacement to the
                sampled frame before, in pixels (x to the right, y down). Not read by
                ``attention='ms'`` and the cues ``rgb_difference`` and ``rgb_average``.

        Returns:
            A tuple with one grid (B, C, T, H', W') a scale.

        Raises:
            ValueError: If frames or fields do not fit.
        """
        self.deformable.check_size(imgs, self._last_patch)
        x, thw = self.patch_embed(imgs)
        thw = tuple(thw)
        cue = self.deformable.cues(imgs, motion, thw[0])
        x = self._add_positions(x, thw)
        outs = []
        for i, block in enumerate(self.blocks):
            if self.with_cp and x.requires_grad:
                x, thw = checkpoint(block, x, thw, cue, use_reentrant=False)
            else:
                x, thw = block(x, thw, cue)
            scale = self.stage_indices.get(i)
            if scale in self.out_scales:
                x = getattr(self, f'norm{scale}')(x)
                outs.append(self._as_output(x, thw))
        return tuple(outs)


class PooledDeformableAttention(DeformableAttention):
    """Deformable attention whose queries may be pooled, on the host's pool."""

    def __init__(self, dense: nn.Module, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.pool_q, self.norm_q = dense.pool_q, dense.norm_q
        self.num_heads = dense.num_heads

    def forward(self, x: Tensor, skip: Tensor, cue: Tensor | None,
                drop_path: nn.Module) -> Tensor:
        """Attend on a grid (B, T, h, w, C); the residual is on that of the queries."""
        query, stride = x, 1
        if self.pool_q is not None:
            stride = self.pool_q.stride[1]
            weight = self.pool_q.weight.repeat(self.num_heads, 1, 1, 1, 1)
            query = depthwise_conv3d(x, weight, self.pool_q.stride)
            query = self.norm_q(query.unflatten(-1, (self.num_heads, -1))).flatten(-2)
        # A query is centred on the first of the places that its pooling steps over.
        base = query_places(query.shape[2:4], stride, x.device)
        return super().forward(x, query.flatten(2, 3), base, skip, cue, drop_path)


class DeformableBlock(MultiScaleBlock):
    """An MViT block around deformable attention.

    Args:
        dense: The host's block, whose parts are taken over.
        settings: Of the attention.
        patch: Pixels on a side of a query's patch.
        stride: Spatial stride of D-MS-A's second map.
    """

    def __init__(self, dense: FusedBlock, settings: DeformableSettings, patch: int,
                 stride: int) -> None:
        BaseModule.__init__(self, init_cfg=dense.init_cfg)
        vars(self).update(vars(dense))
        self.attn = settings.build(
            PooledDeformableAttention, dense.attn, dim=self.in_dims,
            num_heads=dense.attn.num_heads, patch=patch, stride=stride, centred=True)

    _pool_skip = FusedBlock._pool_skip

    def forward(self, x: Tensor, thw: Size3,
                cue: Tensor | None) -> tuple[Tensor, Size3]:
        """Tokens (B, T*H*W, C) on ``thw`` to those on the next grid, and it."""
        grid = self.norm1(x).unflatten(1, thw)
        skip = x
        if self.pool_skip is not None:
            skip = self._pool_skip(x, thw)
            thw = pooled_size(thw, tuple(self.pool_skip.stride))
        x = self.attn(grid, skip.unflatten(1, (thw[0], -1)), cue, self.drop_path)
        x = x.flatten(1, 2)
        normed = self.norm2(x)
        skip = x if self.proj is None else self.proj(normed)
        return skip + self.drop_path(self.mlp(normed)), thw


def _from_dense(module: DVTMViT, state_dict: dict, prefix: str, *args) -> None:
    """Turn a dense MViT's weights into those that deformable blocks share with it."""
    for i, block in enumerate(module.blocks):
        start = f'{prefix}blocks.{i}.attn.'
        if f'{start}qkv.weight' not in state_dict:
            continue
        keep_values(state_dict, start, 'qkv.', 'proj.', block.attn)
        unused = ['pool_k.', 'norm_k.', 'pool_v.', 'norm_v.', 'rel_pos_']
        if block.attn.pool_q is None:
            unused += ['pool_q.', 'norm_q.']
        for name in [name for name in state_dict if name.startswith(
                tuple(start + part for part in unused))]:
            del state_dict[name]
        state_dict.pop(f'{prefix}pos_embed_class', None)
