# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Keeping the best frames of a token grid (STTS, Sec. 3.3, temporal selection).

Legend: B batch, T H W grid, C channels, K kept frames.
"""
from typing import Literal

import torch
from torch import Tensor

from ..ops.grid import Places, Size3, keep_frames, mix_frames, split_extra
from .grid_reducer import GridReducer, SelectionError
from .strategies import Choice

__all__ = ['TemporalSelection']

_FEATURES = ('mean_max', 'mean')


class TemporalSelection(GridReducer):
    """Keep int(T * keep) frames, in their order (Sec. 3.3, eq. 9).

    Args:
        in_channels: C; a host fills it in.
        keep: Share of the frames that is kept, in (0, 1].
        strategy: ``'perturbed_topk'`` (learned), or a baseline of Table 1:
            ``'random'``, ``'uniform'``, ``'cls_attention'``, ``'gumbel'``.
        score_net: ``'released'`` (LayerNorm and four linear layers, as
            checkpoints need) or ``'paper'`` (eq. 2-3).
        frame_feature: What a frame is scored by: ``'mean_max'``, mean and maximum
            over its tokens side by side (released), or ``'mean'`` (the paper's text).
        strategy_cfg: Arguments of the strategy, e.g. ``dict(sigma=0.1)``.

    Raises:
        ValueError: If an argument is not allowed.
    """

    def __init__(self,
                 in_channels: int,
                 keep: float,
                 strategy: Literal['perturbed_topk', 'random', 'uniform',
                                   'cls_attention', 'gumbel'] = 'perturbed_topk',
                 score_net: Literal['released', 'paper'] = 'released',
                 frame_feature: Literal['mean_max', 'mean'] = 'mean_max',
                 strategy_cfg: dict | None = None) -> None:
        if frame_feature not in _FEATURES:
            raise ValueError(f'TemporalSelection: frame_feature={frame_feature!r}: '
                             f'allowed are {", ".join(_FEATURES)}')
        width = in_channels * (2 if frame_feature == 'mean_max' else 1)
        super().__init__(width, keep, strategy, {}, score_net,
                         dict(frame_feature=(frame_feature, _FEATURES[0])),
                         strategy_cfg)
        self.frame_feature = frame_feature

    def count(self, batch: int, thw: Size3) -> tuple[int, int, int]:
        num_frames = thw[0]
        num_kept = int(num_frames * self.keep)
        if num_kept < 1:
            raise SelectionError(
                f'TemporalSelection: keep={self.keep} leaves none of {num_frames} '
                f'token frames: at least {1 / num_frames:.4g} is needed')
        return batch, num_frames, num_kept

    def score_tokens(self, x: Tensor, thw: Size3) -> Tensor:
        _, frames = split_extra(x, thw)
        feature = frames.mean(dim=2)  # (B, T, C)
        if self.frame_feature == 'mean_max':
            feature = torch.cat((feature, frames.amax(dim=2)), dim=-1)
        return self.score_net(feature)

    def score_attention(self, cls_attention: Tensor, thw: Size3) -> Tensor:
        return cls_attention.unflatten(1, (thw[0], -1)).mean(dim=2)

    def reduce(self, x: Tensor, thw: Size3, choice: Choice) -> tuple[Tensor, Size3]:
        if choice.weight is None:
            x = keep_frames(x, thw, choice.index)
        else:
            x = mix_frames(x, thw, choice.weight)
        return x, (choice.index.shape[1], *thw[1:])

    def move(self, places: Places, thw: Size3, choice: Choice) -> Places:
        return places.keep_frames(choice.index)

    def extra_repr(self) -> str:
        return f'keep={self.keep}, frame_feature={self.frame_feature!r}'
