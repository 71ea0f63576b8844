# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""VideoMAE's ViT blocks with fused attention, on mmaction2's parameters.

Between attention and MLP a block can drop tokens by the attention that they received
(EVAD, Sec. 3.2).

Legend: B batch, M tokens of a clip, C channels.
"""
from typing import NamedTuple

import torch
from mmaction.models.backbones.vit_mae import Attention, Block
from torch import Tensor

from ...layers import KeyframePruning, Pruned
from ...ops.attention import attend, attend_and_receive, received_attention
from ...ops.grid import Size3
from ...ops.linear import linear

__all__ = ['Within', 'fuse_block']


class Within(NamedTuple):
    """A pruning inside a block, and what it needs to know.

    Attributes:
        pruning: The reducer.
        places: (B, M), see :class:`KeyframePruning`.
        thw: The grid that places index.
    """
    pruning: KeyframePruning
    places: Tensor
    thw: Size3


class FusedAttention(Attention):
    """Self-attention that never holds its map; the same parameters.

    It reads the weight of ``qkv`` and does not call it, as mmaction2's does: what
    replaces or hooks it has no effect here.
    """

    def forward(self, x: Tensor, with_scores: bool = False, valid: Tensor | None = None,
                query_weight: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Attend.

        Args:
            x: (B, M, C).
            with_scores: Whether the attention that each token receives is asked for.
            valid: (B, M) bool, False for tokens that none attends to.
            query_weight: (B, M), how much each query counts in that attention.

        Returns:
            (B, M, C), and the mean attention (B, M) that each token receives or None.
        """
        bias = None
        if hasattr(self, 'q_bias'):
            bias = torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))
        qkv = linear(x, self.qkv.weight, bias)
        q, k, v = qkv.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        dropout = self.attn_drop.p if self.training else 0.0
        if with_scores and not dropout and not qkv.requires_grad:
            out, scores = attend_and_receive(q, k, v, self.scale, query_weight, valid)
        else:
            out, scores = attend(q, k, v, self.scale, dropout, valid), None
            if with_scores:  # a second pass that holds nothing for the backward pass
                scores = received_attention(q, k, self.scale, query_weight, valid)
        return self.proj_drop(self.proj(out.transpose(1, 2).flatten(2))), scores


class FusedBlock(Block):
    """A block around :class:`FusedAttention`."""

    def forward(self, x: Tensor, with_scores: bool = False, valid: Tensor | None = None,
                within: Within | None = None
                ) -> tuple[Tensor, Tensor | None, Pruned | None]:
        """Run the block.

        Args:
            x: (B, M, C).
            with_scores: Whether the mean attention is asked for that each token of the
                output received; where it ranked tokens it is weighted as it was there.
            valid: (B, M) bool, False for tokens that none attends to.
            within: What drops tokens between attention and MLP.

        Returns:
            Tokens (B, M, C), fewer after a pruning; that attention (B, M) or None; and
            what else came of the pruning, None where there was none.
        """
        pruning = None if within is None else within.pruning
        ranked = pruning is not None and pruning.needs_attention
        weight = None
        if ranked:
            weight = _query_weight(within, valid)
        attended, scores = self.attn(self.norm1(x), with_scores or ranked, valid,
                                     weight)
        x = x + self.drop_path(self._scaled(attended, 'gamma_1'))
        pruned = None
        if pruning is not None:
            x, pruned = pruning(x, within.places, within.thw, scores, valid)
        x = x + self.drop_path(self._scaled(self.mlp(self.norm2(x)), 'gamma_2'))
        if pruned is not None and with_scores:
            scores = scores.gather(1, pruned.index)
        return x, scores if with_scores else None, pruned

    def _scaled(self, x: Tensor, name: str) -> Tensor:
        gamma = getattr(self, name, None)  # LayerScale, where the host has it
        return x if gamma is None else gamma * x


def _query_weight(within: Within, valid: Tensor | None) -> Tensor | None:
    """Weights (B, M) of the queries; those of padding do not count."""
    weight = within.pruning.query_weight(within.places, within.thw)
    if valid is None:
        return weight
    return valid.float() if weight is None else weight.masked_fill(~valid, 0.0)


def fuse_block(block: Block) -> None:
    """Let one of mmaction2's blocks compute as :class:`FusedBlock`."""
    block.__class__ = FusedBlock
    block.attn.__class__ = FusedAttention
