# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Video Swin blocks with fused attention, on mmaction2's parameters.

The parts, and so the parameter names, are those of mmaction2's
``SwinTransformerBlock3D``; only how windows are cut and attended differs
(``ops/windows.py``).

Legend: B batch, N tokens of a grid, R rows of all its windows, C channels, L places of
a window.
"""
import torch
import torch.nn.functional as F
from mmaction.models.backbones.swin import SwinTransformerBlock3D, WindowAttention3D
from mmengine.model import BaseModule
from torch import Tensor

from ...ops.grid import Size3
from ...ops.windows import WindowGroup, WindowPlan, window_bias


class FusedWindowAttention(WindowAttention3D):
    """Window attention that holds no map in inference.

    In training the bias needs a gradient, for which PyTorch computes the map.

    Args:
        dense: mmaction2's attention, whose parts are taken over.
        sliced_index: How windows smaller than configured in height or width read the
            relative position table: by mmaction2's and the release's slice of the
            index, which gives them wrong distances, instead of by true ones.
    """

    def __init__(self, dense: WindowAttention3D, sliced_index: bool) -> None:
        BaseModule.__init__(self, init_cfg=dense.init_cfg)
        vars(self).update(vars(dense))
        self.sliced_index = sliced_index

    def forward(self, x: Tensor, plan: WindowPlan) -> Tensor:
        """Attend within windows: rows (R, C), gathered by ``plan``, to the same."""
        parts = self.qkv(x).split([group.num_rows for group in plan.groups])
        outs = [self._attend(part, group)
                for part, group in zip(parts, plan.groups, strict=True)]
        out = torch.cat(outs) if len(outs) > 1 else outs[0]
        return self.proj_drop(self.proj(out))

    def _attend(self, qkv: Tensor, group: WindowGroup) -> Tensor:
        """Rows (windows * L, 3C) of one group to (windows * L, C)."""
        length = group.size[0] * group.size[1] * group.size[2]
        q, k, v = qkv.view(-1, length, 3, self.num_heads,
                           self.embed_dims // self.num_heads).permute(2, 0, 3, 1, 4)
        bias = self._bias(group.size)
        if group.mask is not None:
            bias = bias.masked_fill(group.mask, -torch.inf)
        out = F.scaled_dot_product_attention(
            q, k, v, attn_mask=bias.to(q.dtype).unsqueeze(0), scale=self.scale,
            dropout_p=self.attn_drop.p if self.training else 0.0)
        return out.transpose(1, 2).reshape(len(qkv), -1)

    def _bias(self, size: Size3) -> Tensor:
        table, index = self.relative_position_bias_table, self.relative_position_index
        if self.sliced_index:
            length = size[0] * size[1] * size[2]
            entries = index[:length, :length].reshape(-1)
            bias = table[entries].view(length, length, -1).permute(2, 0, 1)
        else:
            bias = window_bias(table, index, tuple(self.window_size), size)
        return bias.contiguous()


class FusedWindowBlock(SwinTransformerBlock3D):
    """A Swin block around :class:`FusedWindowAttention`.

    Args:
        dense: mmaction2's block, whose parts are taken over.
        sliced_index: See :class:`FusedWindowAttention`.
    """

    def __init__(self, dense: SwinTransformerBlock3D, sliced_index: bool) -> None:
        BaseModule.__init__(self, init_cfg=dense.init_cfg)
        vars(self).update(vars(dense))
        self.attn = FusedWindowAttention(dense.attn, sliced_index)

    @property
    def is_shifted(self) -> bool:
        """Whether its windows are shifted by half their size."""
        return any(self.shift_size)

    def forward(self, x: Tensor, plan: WindowPlan) -> Tensor:
        """Tokens (B, N, C) to the same, through the windows of ``plan``."""
        rows = self.attn(plan.gather(self.norm1(x)), plan)
        x = x + self.drop_path(plan.restore(rows, len(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))
