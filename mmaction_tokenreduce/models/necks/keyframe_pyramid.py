# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Maps of the keyframe as a pyramid, for an FPN (EVAD, Sec. 3.1 and 3.3).

Legend: B batch, C channels, H W the grid of tokens in a frame.
"""
from collections.abc import Sequence
from numbers import Real

import torch.nn.functional as F
from mmaction.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class KeyframePyramid(nn.Module):
    """Resizes the keyframe after several blocks, each by a factor of its own.

    A plain ViT keeps one resolution; its maps become levels by repeating places or
    leaving some out (nearest). No parameters.

    Args:
        scales: Factor of each map, in the order of the blocks.

    Raises:
        ValueError: If a factor is not a positive number.
    """

    def __init__(self, scales: Sequence[float] = (4, 2, 1, 0.5)) -> None:
        super().__init__()
        if not scales or any(not isinstance(scale, Real) or scale <= 0
                             for scale in scales):
            raise ValueError(f'KeyframePyramid: scales={scales!r}: must be positive '
                             'numbers, one a map')
        self.scales = tuple(scales)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Maps (B, C, H, W) to maps (B, C, scale * H, scale * W), contiguous: mmcv's
        RoIAlign reads a map that is not in the wrong order.

        Raises:
            ValueError: If there is not one map a factor.
        """
        if len(maps) != len(self.scales):
            raise ValueError(f'KeyframePyramid: scales={self.scales} are for '
                             f'{len(self.scales)} maps, got {len(maps)}: the backbone '
                             'needs as many out_indices')
        return tuple(
            (m if scale == 1 else F.interpolate(m, scale_factor=float(scale),
                                                mode='nearest')).contiguous()
            for m, scale in zip(maps, self.scales, strict=True))

    def extra_repr(self) -> str:
        return f'scales={self.scales}'
