# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Deformable attention over space and time and over scales (DVT, Sec. 3.2).

A query attends to a few samples; where they lie and how much each counts are linear in
the query, and for other frames in the motion towards them (eq. 10 to 16). There are no
keys, and no query projection: it would fold into the two linear maps, which is how the
paper's parameter counts come out (Table 2).

Legend: B batch, T frames, h x w places of a frame, Q queries of a frame, C channels,
n heads, N points, S sub-clips of P = T / S frames, F feature maps, L = P or F.
"""
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops.linear import linear
from ..ops.pooling import depthwise_conv3d
from ..ops.sampling import sum_of_samples
from .linear import FastLinear

__all__ = ['AttentionFusion', 'DeformableAttention', 'MultiScaleAttention',
           'MultiScalePoints', 'Points', 'SpaceTimeAttention', 'SpaceTimePoints']

KINDS = ('st', 'ms', 'st+ms')
FUSIONS = ('linear', 'mlp')
_RADIUS = 2.0  # cells that the outermost head's points stand off the query at first
_SPREAD = 0.5  # and by how many the query moves them


class Points(NamedTuple):
    """Where queries look, and how much each place counts.

    Attributes:
        x: (B, T, Q, n, L, N), in cells of the map that is sampled: that of the l-th
            frame of the query's sub-clip, or the l-th feature map.
        y: (B, T, Q, n, L, N).
        weight: (B, T, Q, n, L, N); those of a query and head sum to 1 (eq. 14).
    """
    x: Tensor
    y: Tensor
    weight: Tensor

    @property
    def xy(self) -> Tensor:
        """(B, T, Q, n, L, N, 2)."""
        return torch.stack((self.x, self.y), -1)


class _PointPredictor(nn.Module):
    """The two linear maps W_delta and W_alpha of eq. 12 and 13.

    They start with points on a ring around the query, wider for each head. Both are one
    product here, which reads the weights of ``offset`` and ``weight`` and does not call
    these modules, in an order in which x, y and logits are planes of their own.
    """

    def __init__(self, dim: int, num_heads: int, points: int, maps: int) -> None:
        super().__init__()
        self.num_heads, self.points, self.maps = num_heads, points, maps
        self.offset = FastLinear(dim, num_heads * maps * points * 2)
        self.weight = FastLinear(dim, num_heads * maps * points)
        self.init_weights()

    def init_weights(self) -> None:
        """Points on rings, all of about the same weight."""
        for layer in (self.offset, self.weight):
            nn.init.normal_(layer.weight, std=_SPREAD * layer.in_features**-0.5)
            nn.init.zeros_(layer.bias)
        angle = torch.arange(self.points) * (2 * math.pi / self.points)
        ring = torch.stack((angle.cos(), angle.sin()), -1)  # (N, 2)
        radius = torch.arange(1, self.num_heads + 1) * (_RADIUS / self.num_heads)
        bias = radius.view(-1, 1, 1, 1) * ring  # (n, 1, N, 2)
        with torch.no_grad():
            self.offset.bias.copy_(bias.expand(-1, self.maps, -1, -1).flatten())

    def _joint_weight(self) -> Tensor:
        """Both maps as one (F * 3 * n * N, C): planes of x, y and logits."""
        return self._planes(self.offset.weight, self.weight.weight)

    def _predict(self, query: Tensor, weight: Tensor, base: Tensor) -> Tensor:
        """Queries (B, T, Q, C) at ``base`` (Q, F, 2) to (B, T, Q, F, 3, n, N)."""
        bias = self._planes(self.offset.bias, self.weight.bias)
        planes = linear(query, weight, bias).unflatten(
            -1, (self.maps, 3, self.num_heads, self.points))
        return planes + F.pad(base, (0, 1))[..., None, None]

    def _planes(self, offset: Tensor, logit: Tensor) -> Tensor:
        shape = (self.num_heads, self.maps, self.points)
        offset = offset.unflatten(0, (*shape, 2)).movedim((1, 3), (0, 1))
        logit = logit.unflatten(0, (*shape, 1)).movedim((1, 3), (0, 1))
        return torch.cat((offset, logit), 1).flatten(0, 3)

    @staticmethod
    def _points(planes: Tensor) -> Points:
        """Planes (3, B, T, Q, n, L, N)."""
        x, y, logit = planes
        weight = logit.flatten(-2).softmax(-1)
        return Points(x, y, weight.unflatten(-1, logit.shape[-2:]))


class SpaceTimePoints(_PointPredictor):
    """Points in the frames of the query's sub-clip, led by motion (eq. 11 to 14).

    The motion embedding m enters linearly, so that it is never computed: its kernel is
    multiplied by W_delta and W_alpha, and the product applied to the motion. It reads
    the weights of ``embed`` and does not call it.

    Args:
        dim: C.
        num_heads: n.
        points: N, for each head and frame.
        cue_channels: Of the motion cue: 2 for displacements, 3 for colours.
        patch: Cells of the cue's grid on a side of a query's patch.
        centred: Whether query j stands on the edge between cells patch * j - 1 and
            patch * j, as after MViT's poolings, not in the middle of patch j.
    """

    def __init__(self, dim: int, num_heads: int, points: int, cue_channels: int,
                 patch: int, centred: bool) -> None:
        super().__init__(dim, num_heads, points, maps=1)
        self.before = patch // 2 if centred else 0
        self.embed = nn.Conv2d(cue_channels, dim, patch, patch, bias=False)
        self.init_weights()

    def init_weights(self) -> None:
        """Points on rings; a cue of 1 all over a patch weighs as much as the query."""
        super().init_weights()
        if hasattr(self, 'embed'):  # not while the base class is made
            nn.init.normal_(self.embed.weight, std=1 / self.embed.kernel_size[0])

    def forward(self, query: Tensor, base: Tensor, cue: Tensor) -> Points:
        """Points of queries (B, T, Q, C).

        Args:
            query: Normalised tokens.
            base: (Q, 2), where the queries stand, in cells of the sampled map.
            cue: (B, S, P, P, c, H, W), motion from frame i to j of each sub-clip, H and
                W ``patch`` times the grid of the queries.
        """
        sub_clips, frames = cue.shape[1:3]
        weight = self._joint_weight()
        still = self._predict(query, weight, base.unsqueeze(1))
        kernel = (weight @ self.embed.weight.flatten(1)).unflatten(
            1, self.embed.weight.shape[1:])
        # Channels last, so that what belongs to a query lies together.
        cue = F.pad(cue.flatten(0, 3), (self.before, 0, self.before, 0), 'replicate')
        cue = cue.to(kernel.dtype, memory_format=torch.channels_last)
        moved = F.conv2d(cue, kernel, stride=self.embed.stride).permute(0, 2, 3, 1)
        moved = moved.unflatten(0, (len(query), sub_clips * frames, frames))
        moved = moved.flatten(3, 4).unflatten(-1, still.shape[4:])  # (B,T,P,Q,3,n,N)
        planes = moved + still.transpose(2, 3)
        return self._points(planes.permute(4, 0, 1, 3, 5, 2, 6).contiguous())


class MultiScalePoints(_PointPredictor):
    """Points in the feature maps of the query's own frame (eq. 16).

    Offsets are predicted from the query itself; eq. 16 takes it at each map's scale.
    """

    def forward(self, query: Tensor, base: Tensor) -> Points:
        """Points of queries (B, T, Q, C) that stand at ``base`` (F, Q, 2)."""
        planes = self._predict(query, self._joint_weight(), base.transpose(0, 1))
        # The places in one map lie together.
        planes = planes.permute(4, 3, 0, 1, 2, 5, 6).contiguous()
        return self._points(planes.movedim(1, -2))


class _SampledAttention(nn.Module):
    """Values and output projection around a choice of points."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.value = FastLinear(dim, dim)
        self.proj = FastLinear(dim, dim)

    def init_weights(self) -> None:
        """Let the parts set their initial values."""
        self.choose.init_weights()


class SpaceTimeAttention(_SampledAttention):
    """D-ST-A: N points in each frame of the query's sub-clip (eq. 10 to 14).

    Args:
        dim: C.
        num_heads: n, a divisor of C.
        points: N.
        cue_channels: Of the motion cue.
        patch: Cells of the cue's grid on a side of a query's patch.
        centred: See :class:`SpaceTimePoints`.
    """

    def __init__(self, dim: int, num_heads: int, points: int, cue_channels: int,
                 patch: int, centred: bool) -> None:
        super().__init__(dim, num_heads)
        self.choose = SpaceTimePoints(dim, num_heads, points, cue_channels, patch,
                                      centred)

    def forward(self, x: Tensor, query: Tensor, base: Tensor, cue: Tensor) -> Tensor:
        """Attend, without the residual.

        Args:
            x: (B, T, h, w, C), normalised tokens that are sampled.
            query: (B, T, Q, C), normalised.
            base: (Q, 2), where the queries stand in the h x w grid.
            cue: (B, S, P, P, c, H, W), see :class:`SpaceTimePoints`.

        Returns:
            (B, T, Q, C).
        """
        points = self.choose(query, base, cue)
        frames = cue.shape[2]
        index = torch.arange(x.shape[0] * x.shape[1], device=x.device)
        frame = (index - index % frames).unsqueeze(1) + index[:frames]  # (B*T, P)
        frame = frame.unflatten(0, x.shape[:2]).repeat_interleave(
            self.choose.points, dim=2)
        out = sum_of_samples(self.value(x).flatten(0, 1),
                             *(part.flatten(4) for part in points),
                             frame[:, :, None, None])
        return self.proj(out)


class MultiScaleAttention(_SampledAttention):
    """D-MS-A: N points in each of two maps of the query's frame (eq. 15 and 16).

    The maps are the tokens themselves and a learned, depthwise, strided 3x3x3
    convolution of them. Both share their values' projection.

    Args:
        dim: C.
        num_heads: n, a divisor of C.
        points: N.
        stride: Spatial stride of the second map; its temporal stride is 1.
    """

    def __init__(self, dim: int, num_heads: int, points: int, stride: int) -> None:
        super().__init__(dim, num_heads)
        self.stride = stride
        self.choose = MultiScalePoints(dim, num_heads, points, maps=2)
        self.pool = nn.Conv3d(dim, dim, 3, (1, stride, stride), 1, groups=dim,
                              bias=False)
        self.init_weights()

    def init_weights(self) -> None:
        """The second map is at first about as large as the first."""
        super().init_weights()
        nn.init.normal_(self.pool.weight, std=27**-0.5)

    def forward(self, x: Tensor, query: Tensor, base: Tensor) -> Tensor:
        """Attend, without the residual; arguments as in :class:`SpaceTimeAttention`."""
        pooled = depthwise_conv3d(x, self.pool.weight, self.pool.stride)
        # Place j of the second map is centred on place stride * j of the first.
        points = self.choose(query, torch.stack((base, base / self.stride)))
        frame = torch.arange(x.shape[0] * x.shape[1], device=x.device)
        frame = frame.view(*x.shape[:2], 1, 1, 1)
        fine, coarse = (sum_of_samples(self.value(part).flatten(0, 1),
                                       *(plane[..., i, :] for plane in points), frame)
                        for i, part in enumerate((x, pooled)))
        return self.proj(fine.add_(coarse))


class AttentionFusion(nn.Module):
    """u of Sec. 3.2: one token of the two that the attentions make.

    ``'linear'``: Linear(2C, C), at first their mean. ``'mlp'``: their mean plus
    Linear(2C, 4C), GELU, Linear(4C, C), the channel mixer of MLP-Mixer; the mean keeps
    a path through the depth open and has no parameters.

    Args:
        dim: C.
        kind: Which.
    """

    def __init__(self, dim: int, kind: str) -> None:
        super().__init__()
        self.kind = kind
        if kind == 'linear':
            self.layers = FastLinear(2 * dim, dim)
        else:
            self.layers = nn.Sequential(FastLinear(2 * dim, 4 * dim), nn.GELU(),
                                        FastLinear(4 * dim, dim))
        self.init_weights()

    def init_weights(self) -> None:
        """The mean of both, up to small numbers."""
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        if self.kind == 'linear':
            with torch.no_grad():
                both = torch.eye(self.layers.out_features).repeat(1, 2)
                self.layers.weight.add_(both, alpha=0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        """Pairs of tokens (..., 2, C), D-ST-A's first, to (..., C)."""
        mixed = self.layers(tokens.flatten(-2))
        return mixed if self.kind == 'linear' else mixed + tokens.mean(-2)


class DeformableAttention(nn.Module):
    """Attention of one block: D-ST-A, D-MS-A, or both and their fusion.

    Args:
        dim: C.
        num_heads: n, a divisor of C.
        kind: ``'st'``, ``'ms'`` or ``'st+ms'``.
        fusion: ``'linear'`` or ``'mlp'``, of ``'st+ms'``.
        points: N.
        cue_channels: Of the motion cue: 2 for displacements, 3 for colours.
        patch: Cells of the cue's grid on a side of a query's patch.
        stride: Spatial stride of D-MS-A's second map.
        centred: See :class:`SpaceTimePoints`.
    """

    def __init__(self, dim: int, num_heads: int, kind: str, fusion: str, points: int,
                 cue_channels: int, patch: int, stride: int, centred: bool) -> None:
        super().__init__()
        self.space_time = self.multi_scale = self.fusion = None
        if 'st' in kind:
            self.space_time = SpaceTimeAttention(dim, num_heads, points, cue_channels,
                                                 patch, centred)
        if 'ms' in kind:
            self.multi_scale = MultiScaleAttention(dim, num_heads, points, stride)
        if kind == 'st+ms':
            self.fusion = AttentionFusion(dim, fusion)

    def init_weights(self) -> None:
        """Let the parts set their initial values (called by mmengine)."""
        for part in self.children():
            if hasattr(part, 'init_weights'):
                part.init_weights()

    def forward(self, x: Tensor, query: Tensor, base: Tensor, skip: Tensor,
                cue: Tensor | None, drop_path: Callable[[Tensor], Tensor]) -> Tensor:
        """Attend, the residual added (eq. 10 and 15) before the two are fused.

        Args:
            x: (B, T, h, w, C), normalised tokens that are sampled.
            query: (B, T, Q, C), normalised.
            base: (Q, 2), where the queries stand in the h x w grid.
            skip: (B, T, Q, C), the residual.
            cue: (B, S, P, P, c, H, W); None without D-ST-A.
            drop_path: Acts on what attention adds.

        Returns:
            (B, T, Q, C).
        """
        updates = []
        if self.space_time is not None:
            updates.append(drop_path(self.space_time(x, query, base, cue)))
        if self.multi_scale is not None:
            updates.append(drop_path(self.multi_scale(x, query, base)))
        if self.fusion is None:
            return skip + updates[0]
        return self.fusion(torch.stack(updates, -2) + skip.unsqueeze(-2))
