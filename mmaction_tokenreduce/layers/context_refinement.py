# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""The context refinement decoder of EVAD (Sec. 3.3): actors look at what was kept.

The features of actors stand behind the context tokens of their clip, all attend to all,
and after each block a classifier of its own reads the actors (deep supervision). In the
last block the context is computed like everywhere, although nothing reads it: so the
figures are those of the paper.

Legend: B clips, M context tokens, N actors, C channels, n heads, K classes.
"""
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops.linear import linear
from .linear import FastLinear

__all__ = ['ContextRefinement', 'DecoderBlock']

_MLP_RATIO = 4


class DropPath(nn.Module):
    """Leaves a residual branch out for a share of the clips, in training only."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) to the same; what stays is scaled up, so that the mean stays."""
        if not self.rate or not self.training:
            return x
        kept = x.new_empty(len(x), *[1] * (x.dim() - 1)).bernoulli_(1 - self.rate)
        return x * kept / (1 - self.rate)

    def extra_repr(self) -> str:
        return f'rate={self.rate}'


class Attention(nn.Module):
    """Self-attention with biases on queries and values only, as VideoMAE's."""

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = FastLinear(channels, 3 * channels, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(channels))
        self.v_bias = nn.Parameter(torch.zeros(channels))
        self.proj = FastLinear(channels, channels)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Tokens (B, L, C) to the same; keys where mask (B, 1, 1, L) is False are not
        attended to."""
        bias = torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))
        qkv = linear(x, self.qkv.weight, bias).unflatten(-1, (3, self.num_heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.proj(out.transpose(1, 2).flatten(2))


class DecoderBlock(nn.Module):
    """A pre-norm block: attention, then an MLP of four times the width.

    Args:
        channels: C.
        num_heads: n.
        drop_path: Share of the clips for which a branch is left out in training.
    """

    def __init__(self, channels: int, num_heads: int, drop_path: float = 0.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.attn = Attention(channels, num_heads)
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = nn.Sequential(
            FastLinear(channels, _MLP_RATIO * channels), nn.GELU(),
            FastLinear(_MLP_RATIO * channels, channels))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Tokens (B, L, C) to the same; for ``mask`` see :class:`Attention`."""
        x = x + self.drop_path(self.attn(self.norm1(x), mask))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class ContextRefinement(nn.Module):
    """Blocks over context and actors, with a classifier of actors after each.

    Args:
        channels: C.
        depth: Number of blocks.
        num_heads: n.
        num_classes: K.
        hidden_channels: Width of the classifiers.
        drop_path: Rate in the last block; it grows linearly from 0 in the first.
        deep_supervision: Whether every block has a classifier, or the last alone.

    Raises:
        ValueError: If an argument is not allowed.
    """

    def __init__(self,
                 channels: int = 384,
                 depth: int = 6,
                 num_heads: int = 6,
                 num_classes: int = 80,
                 hidden_channels: int = 2048,
                 drop_path: float = 0.1,
                 deep_supervision: bool = True) -> None:
        super().__init__()
        if type(depth) is not int or depth < 1:
            raise ValueError(f'depth={depth!r}: must be a whole number, at least 1')
        if num_heads < 1 or channels % num_heads:
            raise ValueError(f'num_heads={num_heads!r}: must divide channels='
                             f'{channels}')
        if not 0 <= drop_path < 1:
            raise ValueError(f'drop_path={drop_path!r}: must be in [0, 1)')
        self.blocks = nn.ModuleList(
            DecoderBlock(channels, num_heads, drop_path * i / max(depth - 1, 1))
            for i in range(depth))
        self.classifiers = nn.ModuleList(
            nn.Sequential(
                FastLinear(channels, hidden_channels, bias=False),
                nn.LayerNorm(hidden_channels), nn.ReLU(),
                FastLinear(hidden_channels, num_classes))
            for _ in range(depth if deep_supervision else 1))
        self.init_weights()

    def init_weights(self) -> None:
        """Set the initial values: Xavier for linear layers, no biases."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, context: Tensor, actors: Tensor, valid: Tensor | None = None,
                all_depths: bool = False) -> list[Tensor]:
        """Classify actors.

        Args:
            context: (B, M, C), with positions.
            actors: (B, N, C).
            valid: (B, M) bool, False where a context token is of padding: nothing
                attends to it.
            all_depths: Whether every classifier is asked, or that of the last block
                alone.

        Returns:
            Logits (B, N, K), by block; the last is that of the last block.
        """
        mask = None
        if valid is not None:
            seen = valid.new_ones(actors.shape[:2])
            mask = torch.cat((valid, seen), dim=1)[:, None, None]
        x, logits = torch.cat((context, actors), dim=1), []
        first = len(self.blocks) - len(self.classifiers)
        for i, block in enumerate(self.blocks):
            x = block(x, mask)
            if i == len(self.blocks) - 1 or (all_depths and i >= first):
                logits.append(self.classifiers[i - first](x[:, context.shape[1]:]))
        return logits
