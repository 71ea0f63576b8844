# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What a deformable host is told about motion between frames (DVT, Sec. 4.3, Table 1).

All cues are maps on the grid of the displacement fields, one for each ordered pair of
token frames of a sub-clip, so that they are embedded alike:

* ``motion``: where a cell's content is in the other frame. The fields come from the
  compressed stream or from optical flow; the data pipeline decides.
* ``rgb_residual``: frame i less its prediction from frame j by motion compensation,
  which is what residuals add up to along the path of the motion.
* ``rgb_difference``: frame i less frame j.
* ``rgb_average``: the mean of all sampled frames from i to j.

Token frame i is centred on sampled frame i * F / T, between which motion is taken.

Legend: B batch, F sampled frames, T token frames, S sub-clips of P = T / S frames.
"""
import torch
import torch.nn.functional as F
from torch import Tensor

from ..ops.motion import chain, pair_fields, warp

__all__ = ['CUES', 'cue_channels', 'pair_cues']

CUES = ('motion', 'rgb_residual', 'rgb_difference', 'rgb_average')
NEEDS_FIELDS = ('motion', 'rgb_residual')


def cue_channels(cue: str) -> int:
    """Channels of a cue's maps: displacements have 2, colours 3."""
    return 2 if cue == 'motion' else 3


def pair_cues(cue: str, imgs: Tensor, motion: Tensor | None, token_frames: int,
              sub_clips: int, cell: int, unit: float) -> Tensor:
    """The cue between all token frames of each sub-clip.

    Args:
        cue: One of ``CUES``.
        imgs: (B, 3, F, H, W), normalised.
        motion: (B, 2, F, H / cell, W / cell) in pixels, displacement to the sampled
            frame before; needed by ``motion`` and ``rgb_residual``.
        token_frames: T, a divisor of F.
        sub_clips: S, a divisor of T.
        cell: Pixels on a side of a field's cell.
        unit: Pixels that count as 1 in the cue ``motion``.

    Returns:
        (B, S, P, P, 2 or 3, H / cell, W / cell).

    Raises:
        ValueError: If sizes do not fit, or fields are missing.
    """
    step = imgs.shape[2] // token_frames
    fields = None
    if cue in NEEDS_FIELDS:
        _check_fields(cue, imgs, motion, cell)
        # Fields have a few cells' range: half precision would blur where they lead.
        steps = (motion.float() / cell).unflatten(2, (token_frames, step))
        # (B, T, 2, h, w): to the sampled frame before, then to the token frame before
        between = steps[:, :, :, 0].transpose(1, 2)
        for i in range(1, step):
            earlier = torch.zeros_like(between)
            earlier[:, 1:] = steps[:, :, :-1, step - i].transpose(1, 2)
            between = chain(between.flatten(0, 1),
                            earlier.flatten(0, 1)).view_as(earlier)
        fields = pair_fields(between.transpose(1, 2), sub_clips)
    if cue == 'motion':
        return fields * (cell / unit)
    if cue == 'rgb_residual':
        return _residuals(imgs[:, :, ::step], fields, cell)
    frames = _pool(imgs.transpose(1, 2), cell)  # (B, F, 3, h, w)
    if cue == 'rgb_average':
        return _averages(frames, step, sub_clips)
    parts = frames[:, ::step].unflatten(1, (sub_clips, -1))
    return parts.unsqueeze(3) - parts.unsqueeze(2)


def _check_fields(cue: str, imgs: Tensor, motion: Tensor | None, cell: int) -> None:
    if motion is None:
        raise ValueError(f'cue={cue!r} needs the displacement fields `motion` beside '
                         '`imgs`; see docs/dvt.md for the pipeline that makes them')
    wanted = (len(imgs), 2, imgs.shape[2], imgs.shape[3] // cell, imgs.shape[4] // cell)
    if tuple(motion.shape) != wanted:
        raise ValueError(
            f'motion is {"x".join(map(str, motion.shape))}: clips of '
            f'{"x".join(map(str, imgs.shape))} and motion_stride={cell} need '
            f'{"x".join(map(str, wanted))} (B x 2 x F x H x W)')


def _pool(frames: Tensor, cell: int) -> Tensor:
    """Means over cells of (..., 3, H, W)."""
    pooled = F.avg_pool2d(frames.flatten(0, -4), cell)
    return pooled.view(*frames.shape[:-2], *pooled.shape[-2:])


def _averages(frames: Tensor, step: int, sub_clips: int) -> Tensor:
    """Means of (B, F, 3, h, w) from each token frame to each, both included."""
    total = F.pad(frames.float().cumsum(1), (0, 0, 0, 0, 0, 0, 1, 0))
    size = frames.shape[1] // step // sub_clips
    place = torch.arange(0, frames.shape[1], step, device=frames.device)
    place = place.view(sub_clips, size)
    one, other = place.unsqueeze(2), place.unsqueeze(1)  # (S, P, 1), (S, 1, P)
    first, last = torch.minimum(one, other), torch.maximum(one, other)
    count = (last - first + 1).view(1, *first.shape, 1, 1, 1)
    return ((total[:, last + 1] - total[:, first]) / count).to(frames.dtype)


def _residuals(imgs: Tensor, fields: Tensor, cell: int) -> Tensor:
    """Frames (B, 3, T, H, W) less what motion predicts of them."""
    parts = imgs.transpose(1, 2).unflatten(1, fields.shape[1:3])  # (B, S, P, 3, H, W)
    pairs = parts.unsqueeze(3).expand(*fields.shape[:4], -1, -1, -1)
    pixels = fields.flatten(0, 3).mul(cell)
    pixels = F.interpolate(pixels, imgs.shape[-2:], mode='nearest')
    others = pairs.transpose(2, 3).flatten(0, 3)
    residual = pairs.flatten(0, 3) - warp(others.float(), pixels).to(imgs.dtype)
    return _pool(residual.unflatten(0, fields.shape[:4]), cell)
