# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""VideoMAE's ViT blocks with fused attention, on mmaction2's parameters.

Legend: B batch, M tokens of a clip, C channels.
"""
import torch
import torch.nn.functional as F
from mmaction.models.backbones.vit_mae import Attention, Block
from torch import Tensor

from ...ops.attention import received_attention
from ...ops.linear import linear

__all__ = ['fuse_block']


class FusedAttention(Attention):
    """Self-attention that never holds its map; the same parameters.

    It reads the weight of ``qkv`` and does not call it, as mmaction2's does: what
    replaces or hooks it has no effect here.
    """

    def forward(self, x: Tensor, with_scores: bool = False) -> tuple[Tensor,
                                                                     Tensor | None]:
        """Tokens (B, M, C) to the same, and the mean attention (B, M) each receives."""
        bias = None
        if hasattr(self, 'q_bias'):
            bias = torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))
        qkv = linear(x, self.qkv.weight, bias)
        q, k, v = qkv.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(
            q, k, v, dropout_p=self.attn_drop.p if self.training else 0.0,
            scale=self.scale)
        scores = received_attention(q, k, self.scale) if with_scores else None
        return self.proj_drop(self.proj(out.transpose(1, 2).flatten(2))), scores


class FusedBlock(Block):
    """A block around :class:`FusedAttention`."""

    def forward(self, x: Tensor, with_scores: bool = False) -> tuple[Tensor,
                                                                     Tensor | None]:
        """Tokens (B, M, C) to the same, and the mean attention (B, M) each received."""
        attended, scores = self.attn(self.norm1(x), with_scores)
        x = x + self.drop_path(self._scaled(attended, 'gamma_1'))
        return x + self.drop_path(self._scaled(self.mlp(self.norm2(x)),
                                               'gamma_2')), scores

    def _scaled(self, x: Tensor, name: str) -> Tensor:
        gamma = getattr(self, name, None)  # LayerScale, where the host has it
        return x if gamma is None else gamma * x


def fuse_block(block: Block) -> None:
    """Let one of mmaction2's blocks compute as :class:`FusedBlock`."""
    block.__class__ = FusedBlock
    block.attn.__class__ = FusedAttention
