# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Score networks: how important is each token of a sequence? (STTS, Sec. 3.2)

Both mix a local feature of each token with the mean over the sequence. The form of
the released checkpoints is deeper than eq. 2-3 of the paper; both are offered.

Legend: B sequences, L tokens, C channels.
"""
import torch
from torch import Tensor, nn

__all__ = ['PaperScoreNet', 'ReleasedScoreNet', 'SCORE_NETS', 'min_max_normalize']


def min_max_normalize(scores: Tensor, eps: float = 1e-5) -> Tensor:
    """Scale the last dimension of (..., L) scores to [0, 1) (eq. 3).

    ``eps`` is added to the range, as the released code does, so that equal scores
    become 0 rather than NaN.
    """
    low, high = scores.aminmax(dim=-1, keepdim=True)
    return (scores - low) / (high - low + eps)


class PaperScoreNet(nn.Module):
    """Two linear layers, the sequence mean joined between them (eq. 2-3).

    Args:
        in_channels: C, even.

    Raises:
        ValueError: If ``in_channels`` is odd.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        _check_divisible(in_channels, 2)
        self.embed = nn.Linear(in_channels, in_channels // 2)
        self.head = nn.Linear(in_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, L, C) to raw scores (B, L)."""
        local = self.embed(x)
        context = local.mean(dim=1, keepdim=True).expand_as(local)
        return self.head(torch.cat((local, context), dim=-1)).squeeze(-1)


class ReleasedScoreNet(nn.Module):
    """The network of the released STTS checkpoints.

    LayerNorm, Linear(C, C), GELU; the first C/2 channels stay local, the last C/2
    are averaged over the sequence; then C -> C/2 -> C/4 -> 1 with GELU between.

    Args:
        in_channels: C, divisible by 4.

    Raises:
        ValueError: If ``in_channels`` is not divisible by 4.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        _check_divisible(in_channels, 4)
        half, quarter = in_channels // 2, in_channels // 4
        self.norm = nn.LayerNorm(in_channels)
        self.embed = nn.Linear(in_channels, in_channels)
        self.act = nn.GELU()
        self.head = nn.Sequential(
            nn.Linear(in_channels, half), nn.GELU(), nn.Linear(half, quarter),
            nn.GELU(), nn.Linear(quarter, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, L, C) to raw scores (B, L)."""
        local, context = self.act(self.embed(self.norm(x))).chunk(2, dim=-1)
        context = context.mean(dim=1, keepdim=True).expand_as(local)
        return self.head(torch.cat((local, context), dim=-1)).squeeze(-1)


SCORE_NETS = {'released': ReleasedScoreNet, 'paper': PaperScoreNet}


def _check_divisible(in_channels: int, divisor: int) -> None:
    if in_channels % divisor:
        raise ValueError(f'a score network needs channels divisible by {divisor}, '
                         f'got in_channels={in_channels}')
