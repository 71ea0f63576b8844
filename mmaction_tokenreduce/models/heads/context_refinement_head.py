# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Names the actions of actors in the light of what was kept (EVAD, Sec. 3.3).

On purpose otherwise than the paper: dropped places hold a learned token, as in the
release (the paper: zeros, ``dropped_value='zero'``). On purpose otherwise than the
release: tokens return to the places they come from (``remap``).

Legend: B clips, M kept tokens, D dropped ones, T H W the grid, L = T*H*W, C the width
of the encoder, E that of the decoder, N boxes of a clip.
"""
import torch
from mmaction.registry import MODELS
from torch import Tensor, nn

from ...layers import (
    REMAPS,
    ActorPooling,
    ContextRefinement,
    FastLinear,
    places_of,
    restore_tokens,
)
from ...ops.boxes import covered_places
from ...ops.grid import Size3
from ...ops.positions import resize_positions, sine_cosine_positions
from ..token_sequence import EncodedClip
from .action_head import ActionHead

DROPPED = ('mask_token', 'zero')
CONTEXTS = ('kept', 'all')


@MODELS.register_module()
class ContextRefinementHead(ActionHead):
    """Pools actors from the restored clip; a decoder refines them with the kept tokens.

    Args:
        in_channels: C.
        channels: E.
        depth: Blocks of the decoder (Table 1e).
        num_heads: Of its attention.
        num_classes: Actions, without mmaction2's unused column 0.
        hidden_channels: Width of the classifiers.
        drop_path: Rate in the decoder's last block.
        grid: Token frames, rows and columns that the decoder's positions are made for;
            for other rows and columns they are resized.
        stride: Pixels per token.
        roi_extension: Shares of width and height that boxes are extended by (Table 1f).
        remap: Where kept tokens return to: ``'place'``, where they come from, or
            ``'released'``, as the release scrambles them, for its weights.
        dropped_value: What dropped places hold, ``'mask_token'``, learned, or
            ``'zero'``.
        context: What the decoder sees beside actors, ``'kept'`` tokens or ``'all'``,
            dropped ones as they were when they were dropped (Table 1d). The backbone
            then needs ``return_dropped=True``. Actors are pooled from kept tokens in
            either case.
        deep_supervision: Whether every block has a classifier with a loss.
        loss_weight: Of each of them.
        multilabel: See :class:`ActionHead`.

    Raises:
        ValueError: If an argument is not allowed.
    """

    def __init__(self,
                 in_channels: int = 768,
                 channels: int = 384,
                 depth: int = 6,
                 num_heads: int = 6,
                 num_classes: int = 80,
                 hidden_channels: int = 2048,
                 drop_path: float = 0.1,
                 grid: Size3 = (8, 14, 14),
                 stride: int = 16,
                 roi_extension: tuple[float, float] = (0.4, 0.2),
                 remap: str = 'place',
                 dropped_value: str = 'mask_token',
                 context: str = 'kept',
                 deep_supervision: bool = True,
                 loss_weight: float = 12.0,
                 multilabel: bool = True) -> None:
        super().__init__(num_classes, loss_weight, multilabel)
        for name, value, allowed in (('remap', remap, REMAPS),
                                     ('dropped_value', dropped_value, DROPPED),
                                     ('context', context, CONTEXTS)):
            if value not in allowed:
                raise ValueError(f'ContextRefinementHead: {name}={value!r}: allowed '
                                 f'are {", ".join(allowed)}')
        if remap == 'released' and context == 'all':
            raise ValueError("ContextRefinementHead: remap='released' is known for "
                             "context='kept' only")
        self.remap, self.context, self.grid = remap, context, tuple(grid)
        self.project = FastLinear(in_channels, channels, bias=False)
        self.mask_token = None
        if dropped_value == 'mask_token':
            self.mask_token = nn.Parameter(torch.zeros(1, 1, channels))
        table = sine_cosine_positions(grid[0] * grid[1] * grid[2], channels)
        self.register_buffer('positions', table, persistent=False)
        try:
            self.pooling = ActorPooling(roi_extension, stride)
            self.decoder = ContextRefinement(channels, depth, num_heads, num_classes,
                                             hidden_channels, drop_path,
                                             deep_supervision)
        except ValueError as error:
            raise ValueError(f'ContextRefinementHead: {error}') from error

    def init_weights(self) -> None:
        """Set the initial values."""
        super().init_weights()
        nn.init.xavier_uniform_(self.project.weight)
        if self.mask_token is not None:
            nn.init.trunc_normal_(self.mask_token, std=0.02)

    def forward(self, clip: EncodedClip, boxes: Tensor, sizes: Tensor,
                all_depths: bool = False) -> list[Tensor]:
        """See :meth:`ActionHead.forward`.

        Raises:
            ValueError: If the clip has other token frames than ``grid``, or dropped
                tokens are needed and not there.
        """
        if clip.thw[0] != self.grid[0]:
            raise ValueError(f'ContextRefinementHead: grid={self.grid}: the clip has '
                             f'{clip.thw[0]} token frames')
        positions = resize_positions(self.positions, self.grid, clip.thw)
        tokens = self.project(clip.tokens)
        frame = clip.thw[1] * clip.thw[2]
        places = places_of(clip.places, frame, self.remap)
        fill = tokens.new_zeros(tokens.shape[-1])
        if self.mask_token is not None:
            fill = self.mask_token
        restored = restore_tokens(tokens, places, len(positions), fill) + positions
        actors = self.pooling(restored, clip.thw, boxes, sizes)
        context, valid = tokens + positions[places], clip.valid
        if self.context == 'all':
            dropped, gone = self._dropped(clip, positions, sizes)
            context = torch.cat((context, dropped), dim=1)
            valid = None if valid is None else torch.cat((valid, gone), dim=1)
        return self.decoder(context, actors.to(context.dtype), valid, all_depths)

    def _dropped(self, clip: EncodedClip, positions: Tensor,
                 sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Dropped tokens (B, D, E) with positions, and which are of an image."""
        if clip.dropped is None:
            raise ValueError("ContextRefinementHead: context='all' needs dropped "
                             'tokens: set return_dropped=True of the backbone')
        values, places = clip.dropped
        covered = covered_places(sizes, clip.thw[1:], self.pooling.stride).flatten(1)
        return (self.project(values) + positions[places],
                covered.gather(1, places % covered.shape[1]))
