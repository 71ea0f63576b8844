# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""MViT blocks with fused attention, on mmaction2's parameters.

The parts, and so the parameter names, are those of mmaction2's ``MultiScaleBlock``;
only how they are computed differs: attention goes through
``scaled_dot_product_attention``, pooling works on channels-last grids without copies,
and relative positions are read at the true distances of what was kept.

Legend: B batch, E extra tokens (0 or 1 CLS), N = E + T*H*W tokens, n heads, D channels
of a head; q and kv grids may be pooled.
"""

import torch
import torch.nn.functional as F
from mmaction.models.backbones.mvit import MultiScaleAttention, MultiScaleBlock
from mmcv.cnn import build_norm_layer
from mmcv.cnn.bricks import DropPath
from mmengine.model import BaseModule
from mmengine.model.weight_init import trunc_normal_
from torch import Tensor, nn

from ...ops.attention import cls_row
from ...ops.grid import Places, Size3
from ...ops.linear import linear
from ...ops.pooling import depthwise_conv3d, max_pool_frames
from ...ops.relative_position import decomposed_bias


def pooled_size(thw: Size3, stride: Size3) -> Size3:
    """Grid after pooling with an odd kernel, padded by half of it."""
    return tuple((side - 1) // step + 1
                 for side, step in zip(thw, stride, strict=True))


class FusedAttention(MultiScaleAttention):
    """Pooling attention that holds no map, but for the bias of relative positions.

    It reads the weights of ``qkv`` and of the pools and does not call these modules:
    what replaces or hooks them (LoRA, quantisation) has no effect here.

    Made from a dense module, whose parts it takes over.

    Args:
        dense: mmaction2's attention.
        pool_query: Whether queries are pooled (MViTv2 pools them in every block,
            MViTv1 only where it downscales).
        pool_norm_cfg: Norm after the q/k/v pooling; None keeps the dense module's.
    """

    def __init__(self, dense: MultiScaleAttention, pool_query: bool,
                 pool_norm_cfg: dict | None) -> None:
        BaseModule.__init__(self, init_cfg=dense.init_cfg)
        vars(self).update(vars(dense))
        if not pool_query:
            self.pool_q = self.norm_q = None
        if pool_norm_cfg is not None:
            for name in ('norm_q', 'norm_k', 'norm_v'):
                if getattr(self, name) is not None:
                    width = self.out_dims // self.num_heads
                    setattr(self, name, build_norm_layer(pool_norm_cfg, width)[1])

    def init_weights(self) -> None:
        """As mmaction2's, also where there are no relative positions."""
        BaseModule.init_weights(self)
        if self.rel_pos_embed and not self.rel_pos_zero_init:
            for table in (self.rel_pos_h, self.rel_pos_w, self.rel_pos_t):
                trunc_normal_(table, std=0.02)

    def forward(self, x: Tensor, thw: Size3, full: Size3 | None = None,
                places: Places | None = None, with_row: bool = False
                ) -> tuple[Tensor, Size3, Tensor | None]:
        """Attend within a clip.

        Args:
            x: (B, N, C), normalised.
            thw: Its grid.
            full: The grid if nothing had been dropped (relative positions only).
            places: Where its tokens stand there; None if nothing was dropped.
            with_row: Whether the class token's attention is wanted.

        Returns:
            Tokens (B, N', C') on the pooled query grid, that grid, and the attention
            (B, T'*H'*W') of the class token to its places, or None.
        """
        dims = self.out_dims
        weight, bias = self.qkv.weight, self.qkv.bias
        q_bias, kv_bias = (None, None) if bias is None else (bias[:dims], bias[dims:])
        # Two products, so that keys and values need no copy before they are pooled.
        q = linear(x, weight[:dims], q_bias).unflatten(-1, (self.num_heads, -1))
        kv = linear(x, weight[dims:], kv_bias).unflatten(-1, (2 * self.num_heads, -1))
        q, q_thw = self._pool(q, thw, (self.pool_q, ), (self.norm_q, ))
        kv, k_thw = self._pool(kv, thw, (self.pool_k, self.pool_v),
                               (self.norm_k, self.norm_v))
        k, v = (part.transpose(1, 2) for part in kv)
        q = q[0].transpose(1, 2)  # (B, n, N', D)
        mask = None
        if self.rel_pos_embed:
            mask = self._relative_bias(q, thw, q_thw, k_thw, full, places)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        if self.residual_pooling:
            extra = int(self.with_cls_token)
            out = torch.cat((out[:, :, :extra], out[:, :, extra:] + q[:, :, extra:]), 2)
        row = self._attention_of_class_token(q, k, k_thw, q_thw) if with_row else None
        return self.proj(out.transpose(1, 2).flatten(2)), q_thw, row

    def _attention_of_class_token(self, q: Tensor, k: Tensor, k_thw: Size3,
                                  q_thw: Size3) -> Tensor:
        """Attention of the class token, mean over heads, on the query grid.

        Keys are pooled: each place reads the key that covers it. Relative positions add
        nothing to the class token's logits.
        """
        row = cls_row(q, k, q.shape[-1]**-0.5)
        grid = row.unflatten(1, k_thw).unsqueeze(1)
        return F.interpolate(grid, q_thw, mode='nearest').flatten(1)

    def _pool(self, x: Tensor, thw: Size3, pools: tuple[nn.Conv3d | None, ...],
              norms: tuple[nn.Module | None, ...]) -> tuple[list[Tensor], Size3]:
        """Pool len(pools) parts of (B, N, parts * n, D) tokens in one convolution."""
        if pools[0] is None:
            return [x], thw
        extra = int(self.with_cls_token)
        weight = torch.cat([pool.weight.repeat(self.num_heads, 1, 1, 1, 1)
                            for pool in pools])
        grid = x[:, extra:].flatten(2).unflatten(1, thw)
        grid = depthwise_conv3d(grid, weight, pools[0].stride)
        thw = tuple(grid.shape[1:4])
        grid = grid.flatten(1, 3).unflatten(-1, x.shape[2:])
        parts = []
        for part, cls, norm in zip(grid.split(self.num_heads, 2),
                                   x[:, :extra].split(self.num_heads, 2), norms,
                                   strict=True):
            parts.append(norm(torch.cat((cls, part), dim=1) if extra else part))
        return parts, thw

    def _relative_bias(self, q: Tensor, thw: Size3, q_thw: Size3, k_thw: Size3,
                       full: Size3 | None, places: Places | None) -> Tensor:
        """Bias (B, n, N', M) of the logits, zero for extra tokens."""
        full = thw if full is None else full
        q_stride = self.pool_q.stride if self.pool_q is not None else (1, 1, 1)
        k_stride = self.pool_k.stride
        q_full, k_full = pooled_size(full, q_stride), pooled_size(full, k_stride)
        q_places = k_places = None
        if places is not None:
            q_places = places.pool(q_stride, q_full)
            k_places = places.pool(k_stride, k_full)
        extra = int(self.with_cls_token)
        tables = (self.rel_pos_t, self.rel_pos_h, self.rel_pos_w)
        bias = decomposed_bias(q[:, :, extra:], q_thw, k_thw, tables, q_full, k_full,
                               q_places, k_places)
        return F.pad(bias, (extra, 0, extra, 0))


class FusedBlock(MultiScaleBlock):
    """A multiscale transformer block around :class:`FusedAttention`.

    Args:
        dense: mmaction2's block, whose parts are taken over.
        pool_query: See :class:`FusedAttention`.
        pool_norm_cfg: See :class:`FusedAttention`.
    """

    def __init__(self, dense: MultiScaleBlock, pool_query: bool,
                 pool_norm_cfg: dict | None) -> None:
        BaseModule.__init__(self, init_cfg=dense.init_cfg)
        vars(self).update(vars(dense))
        self.attn = FusedAttention(dense.attn, pool_query, pool_norm_cfg)
        if isinstance(self.drop_path, DropPath):
            # mmaction2 leaves a NumPy number, at which compilers break the graph.
            self.drop_path.drop_prob = float(self.drop_path.drop_prob)

    @property
    def stride(self) -> Size3:
        """By how much the block downscales its grid."""
        return (1, 1, 1) if self.pool_skip is None else tuple(self.pool_skip.stride)

    def forward(self, x: Tensor, thw: Size3, full: Size3 | None = None,
                places: Places | None = None, with_row: bool = False
                ) -> tuple[Tensor, Size3, Tensor | None]:
        """Tokens (B, N, C) on ``thw`` to (B, N', C') on the next grid.

        The other arguments, and what is returned, are those of :class:`FusedAttention`.
        """
        normed = self.norm1(x)
        attended, out_thw, row = self.attn(normed, thw, full, places, with_row)
        widens_here = self.dim_mul_in_attention and self.proj is not None
        skip = self.proj(normed) if widens_here else x
        if self.pool_skip is not None:
            skip = self._pool_skip(skip, thw)
        x = skip + self.drop_path(attended)
        normed = self.norm2(x)
        widens_here = not self.dim_mul_in_attention and self.proj is not None
        skip = self.proj(normed) if widens_here else x
        return skip + self.drop_path(self.mlp(normed)), out_thw, row

    def _pool_skip(self, x: Tensor, thw: Size3) -> Tensor:
        extra = int(self.with_cls_token)
        pool = self.pool_skip
        grid = max_pool_frames(x[:, extra:].unflatten(1, thw), pool.kernel_size[1:],
                               pool.stride[1:], pool.padding[1:])
        return torch.cat((x[:, :extra], grid.flatten(1, 3)), dim=1)
