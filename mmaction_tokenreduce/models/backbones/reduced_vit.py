# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""VideoMAE's ViT with reducers between its blocks (STTM, Sec. 3; STTS).

It has no class token: where reducers need to know which tokens matter, they get the
mean attention that each token receives in the block before.

Legend: B batch, T H W grid of tokens, M tokens of a clip, C channels.
"""
import inspect
from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from mmaction.models.backbones.vit_mae import VisionTransformer
from mmaction.registry import MODELS
from mmcv.cnn.bricks.wrappers import Linear as MMCVLinear
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...layers import TokenMerging, replace_linears
from ..reducers import Offer, build_reducers
from ..token_sequence import TokenSequence, check_order, reduce_tokens
from .vit_block import fuse_block


@MODELS.register_module()
class ReducedViT(VisionTransformer):
    """mmaction2's ``VisionTransformer`` (VideoMAE), handed fewer tokens.

    Its own arguments are listed here, the others are those of
    :class:`mmaction.models.VisionTransformer`; checkpoints of that load unchanged.

    Args:
        reducers: Configs of selectors and merges, each with ``before=i``, the block it
            acts before, e.g. ``dict(type='TokenMerging', before=6, scope='frame')``.
            A frame is a token frame: ``tubelet_size`` frames of the video.
        with_cp: Recompute blocks in the backward pass to save memory.

    Raises:
        TypeError: If an argument is not one of the host's.
        ValueError: If an argument is not allowed, a reducer stands beyond the depth, or
            cannot follow those before it.
    """

    def __init__(self,
                 *args,
                 reducers: Sequence[Mapping] = (),
                 with_cp: bool = False,
                 **kwargs) -> None:
        signature = inspect.signature(VisionTransformer)
        given = signature.bind(*args, **kwargs).arguments
        for name in given.get('kwargs', ()):  # the parent would swallow a misspelt one
            raise TypeError(f'ReducedViT got an unexpected argument {name!r}')
        super().__init__(*args, **kwargs)
        if given.get('pretrained'):  # the parent loses it
            self.init_cfg = dict(type='Pretrained', checkpoint=given['pretrained'])
        self.with_cp = with_cp
        name, depth = type(self).__name__, len(self.blocks)
        self.reducers, self._reducers_before = build_reducers(reducers, Offer(
            name, [self.embed_dims] * depth, merging=True,
            no_cls_attention=dict.fromkeys(range(depth), "VideoMAE's ViT has no class "
                                           'token'),
            no_scores={0: 'no attention has been computed there yet'}))
        check_order(self._reducers_before, name)
        if self.return_feat_map and any(
                isinstance(r, TokenMerging) and r.ratio for r in self.reducers):
            raise ValueError(f'{name}: return_feat_map=True needs a grid of tokens, '
                             'which TokenMerging does not leave')
        for block in self.blocks:
            fuse_block(block)
        replace_linears(self, (nn.Linear, MMCVLinear))

    def forward(self, x: Tensor) -> Tensor:
        """Clips (B, 3, T, H, W) to features (B, C).

        Returns:
            The mean token, normalised; or the grid (B, C, T', H', W') that the reducers
            left, with ``return_feat_map``.

        Raises:
            ValueError: If x is not of that shape, or the number of frames is not the
                model's.
        """
        if x.dim() != 5:
            raise ValueError('ReducedViT: clips must be (B, 3, T, H, W), got shape '
                             f'{tuple(x.shape)}')
        tokens, scores = self._embed(x), None
        for i, block in enumerate(self.blocks):
            tokens = reduce_tokens(self._reducers_before.get(i, ()), tokens, scores)
            asked = any(isinstance(reducer, TokenMerging) and reducer.needs_scores
                        for reducer in self._reducers_before.get(i + 1, ()))
            if self.with_cp and tokens.x.requires_grad:
                x, scores = checkpoint(block, tokens.x, asked, use_reentrant=False)
            else:
                x, scores = block(tokens.x, asked)
            tokens = tokens._replace(x=x)
        x = self.norm(x)
        if self.return_feat_map:
            return x.transpose(1, 2).unflatten(2, tokens.thw)
        return self.fc_norm(x.mean(1)) if self.fc_norm is not None else x[:, 0]

    def _embed(self, x: Tensor) -> TokenSequence:
        """Patches with their position embeddings, resized for another frame size."""
        thw = tuple(side // step for side, step in
                    zip(x.shape[2:], self.patch_embed.projection.stride, strict=True))
        x, positions = self.patch_embed(x)[0], self.pos_embed
        frames = positions.shape[1] // (self.grid_size[0] * self.grid_size[1])
        if thw[0] != frames:
            raise ValueError(f'ReducedViT: {thw[0]} token frames, the position '
                             f'embeddings are for {frames} (num_frames, tubelet_size)')
        if thw[1:] != self.grid_size:
            table = positions.unflatten(1, (frames, *self.grid_size))[0]
            table = F.interpolate(table.permute(0, 3, 1, 2), thw[1:], mode='bicubic',
                                  align_corners=False)
            positions = table.permute(0, 2, 3, 1).flatten(0, 2).unsqueeze(0)
        x = self.pos_drop(x + positions)
        fused = any(isinstance(r, TokenMerging) and r.needs_positions
                    for r in self.reducers)
        return TokenSequence(x, 0, thw, thw[0], positions.expand_as(x) if fused
                             else None)
