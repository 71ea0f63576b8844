# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Fixed sine-cosine positions of a clip's tokens (VideoMAE; EVAD's decoder).

Legend: T H W a grid of tokens, C channels.
"""
import torch
import torch.nn.functional as F
from torch import Tensor

from .grid import Size3

__all__ = ['resize_positions', 'sine_cosine_positions']


def sine_cosine_positions(count: int, channels: int) -> Tensor:
    """Positions (count, C) of places counted from 0, float32.

    Channel j is the sine (j even) or cosine (j odd) of place / 10000^(2 (j // 2) / C).
    """
    place = torch.arange(count, dtype=torch.float64).unsqueeze(1)
    channel = torch.arange(channels)
    angle = place / 10000**(2 * (channel // 2).double() / channels)
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos()).float()


def resize_positions(table: Tensor, grid: Size3, thw: Size3) -> Tensor:
    """Positions for frames of another size: each frame's are resized bicubically.

    Args:
        table: (T*H*W, C), time-major.
        grid: T, H, W of the table.
        thw: T, H', W' that are wanted; the number of frames must be the table's.

    Returns:
        (T*H'*W', C); the table itself where nothing is to be resized.
    """
    if thw == grid:
        return table
    frames = table.unflatten(0, grid).permute(0, 3, 1, 2)
    frames = F.interpolate(frames, thw[1:], mode='bicubic', align_corners=False)
    return frames.permute(0, 2, 3, 1).flatten(0, 2)
