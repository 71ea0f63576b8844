# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""VideoMAE's ViT with reducers between and within its blocks (STTM, STTS, EVAD).

It has no class token: where reducers need to know which tokens matter, they get the
mean attention that each token receives in the block before, or in the one they act
within (EVAD, Sec. 3.2).

Legend: B batch, T H W grid of tokens, M tokens of a clip, C channels, D dropped tokens.
"""
import inspect
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from mmaction.models.backbones.vit_mae import VisionTransformer
from mmaction.registry import MODELS
from mmcv.cnn.bricks.wrappers import Linear as MMCVLinear
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...layers import (
    GridReducer,
    KeyframePruning,
    SpatialSelection,
    TokenMerging,
    replace_linears,
)
from ..reducers import Offer, build_reducers
from ..token_sequence import EncodedClip, TokenSequence, check_order, reduce_tokens
from .vit_block import Within, fuse_block


@MODELS.register_module()
class ReducedViT(VisionTransformer):
    """mmaction2's ``VisionTransformer`` (VideoMAE), handed fewer tokens.

    Its own arguments are listed here, the others are those of
    :class:`mmaction.models.VisionTransformer`; checkpoints of that load unchanged.

    Args:
        reducers: Configs of selectors and merges, each with ``before=i``, the block it
            acts before, e.g. ``dict(type='TokenMerging', before=6, scope='frame')``,
            and of prunings with ``within=i``, the block between whose attention and MLP
            they act (random ones can also act ``before=i``), e.g.
            ``dict(type='KeyframePruning', within=3, keep=0.7)``. A frame is a token
            frame: ``tubelet_size`` frames of the video. After selection the keyframe is
            the middle one of the frames that are left.
        out_indices: Blocks after which the map of the keyframe, token frame T // 2, is
            handed to a detector; the forward pass then returns :class:`EncodedClip`.
            None: features for a classifier, or the grid with ``return_feat_map``.
        return_dropped: Whether what was pruned is handed to the detector too.
        with_cp: Recompute blocks in the backward pass to save memory.

    Raises:
        TypeError: If an argument is not one of the host's.
        ValueError: If an argument is not allowed, a reducer stands beyond the depth, or
            cannot follow those before it.
    """

    def __init__(self,
                 *args,
                 reducers: Sequence[Mapping] = (),
                 out_indices: Sequence[int] | None = None,
                 return_dropped: bool = False,
                 with_cp: bool = False,
                 **kwargs) -> None:
        signature = inspect.signature(VisionTransformer)
        given = signature.bind(*args, **kwargs).arguments
        for name in given.get('kwargs', ()):  # the parent would swallow a misspelt one
            raise TypeError(f'ReducedViT got an unexpected argument {name!r}')
        super().__init__(*args, **kwargs)
        if given.get('pretrained'):  # the parent loses it
            self.init_cfg = dict(type='Pretrained', checkpoint=given['pretrained'])
        self.with_cp, self.return_dropped = with_cp, return_dropped
        self.out_indices = (tuple(out_indices) if isinstance(out_indices, Sequence)
                            else out_indices)
        name, depth = type(self).__name__, len(self.blocks)
        self.reducers, self._reducers_before, self._reducers_within = build_reducers(
            reducers, Offer(
                name, [self.embed_dims] * depth, merging=True, pruning=True,
                no_cls_attention=dict.fromkeys(range(depth), "VideoMAE's ViT has no "
                                               'class token'),
                no_scores={0: 'no attention has been computed there yet'}))
        check_order(self._reducers_before, name, self._reducers_within)
        prunings = [reducer for reducer in self.reducers
                    if isinstance(reducer, KeyframePruning) and reducer.keep != 1]
        self._unified = any(pruning.unified for pruning in prunings)
        self._keeps_dropped = (self.return_feat_map or self.return_dropped
                               or self.out_indices is not None and self._unified)
        self._check_outputs(bool(prunings))
        for block in self.blocks:
            fuse_block(block)
        replace_linears(self, (nn.Linear, MMCVLinear))

    def placed_reducers(self) -> list[tuple[str, int, nn.Module]]:
        """``'before'`` or ``'within'``, the block, and the reducer, as they act."""
        placed = [(block, key, reducer)
                  for key, by_block in (('before', self._reducers_before),
                                        ('within', self._reducers_within))
                  for block, reducers in by_block.items() for reducer in reducers]
        return [(key, block, reducer) for block, key, reducer in
                sorted(placed, key=lambda place: place[:2])]

    def _check_outputs(self, prunes: bool) -> None:
        """Refuse outputs that exclude each other or that reducers do not leave."""
        name, wanted = type(self).__name__, self.out_indices
        merges = any(isinstance(r, TokenMerging) and r.ratio for r in self.reducers)
        selects = any(isinstance(r, GridReducer) and r.keep != 1 for r in self.reducers)
        crops = any(isinstance(r, SpatialSelection) and r.keep != 1
                    for r in self.reducers)
        if self.return_feat_map and merges:
            raise ValueError(f'{name}: return_feat_map=True needs a grid of tokens, '
                             'which TokenMerging does not leave')
        if self.return_feat_map and crops:
            raise ValueError(f'{name}: return_feat_map=True needs whole frames, which '
                             'SpatialSelection does not leave: boxes would be read '
                             'off the wrong places')
        if wanted is None:
            if self.return_dropped:
                raise ValueError(f'{name}: return_dropped=True hands what was pruned to'
                                 ' a detector, and needs out_indices')
            if prunes and self.fc_norm is None and not self.return_feat_map:
                raise ValueError(f'{name}: use_mean_pooling=False reads the first token'
                                 ', which KeyframePruning moves or drops; use '
                                 'use_mean_pooling=True')
            return
        depth = len(self.blocks)
        if not isinstance(wanted, tuple) or not wanted or not all(
                type(i) is int and 0 <= i < depth for i in wanted
        ) or list(wanted) != sorted(set(wanted)):
            raise ValueError(f'{name}: out_indices={wanted}: must be ascending numbers '
                             f'of blocks, allowed are 0 to {depth - 1}')
        if self.return_feat_map:
            raise ValueError(f'{name}: out_indices={wanted} and return_feat_map=True '
                             'exclude each other')
        if merges or selects:
            raise ValueError(f'{name}: out_indices={wanted} needs the whole keyframe, '
                             'which selection and merging do not leave; allowed is '
                             'KeyframePruning')

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor | EncodedClip:
        """Clips (B, 3, T, H, W) to features (B, C).

        Args:
            x: The clips.
            valid: (B, H', W') bool, which places of a token frame hold image rather
                than padding. Padding is never attended to, is pruned first, and does
                not count in the mean token. None: all hold image.

        Returns:
            The mean token, normalised; or the grid (B, C, T', H', W') of the frames
            that are left, with ``return_feat_map``, where pruned places hold their
            value of when they were dropped; or :class:`EncodedClip`, with
            ``out_indices``.

        Raises:
            ValueError: If x is not of that shape, or the number of frames is not the
                model's, or ``valid`` does not fit, or cannot serve with the reducers.
        """
        if x.dim() != 5:
            raise ValueError('ReducedViT: clips must be (B, 3, T, H, W), got shape '
                             f'{tuple(x.shape)}')
        tokens = self._embed(x)
        if valid is not None:
            tokens = tokens._replace(valid=self._token_mask(valid, tokens))
        tokens, maps = self._run_blocks(tokens)
        if self.out_indices is not None:
            norm = self.norm if self.fc_norm is None else self.fc_norm
            return tokens.encode(norm, maps, self.return_dropped)
        if self.return_feat_map:
            x = self.norm(tokens.restored())
            return x.transpose(1, 2).unflatten(2, tokens.thw)
        x = self.norm(tokens.x)
        if self.fc_norm is None:
            return x[:, 0]
        if tokens.valid is None:
            return self.fc_norm(x.mean(1))
        share = tokens.valid / tokens.valid.sum(1, keepdim=True)
        return self.fc_norm((x * share.unsqueeze(-1)).sum(1))

    def _run_blocks(self, tokens: TokenSequence) -> tuple[TokenSequence, list[Tensor]]:
        """What the blocks and reducers leave, and the maps of the keyframe."""
        scores, maps = None, []
        for i, block in enumerate(self.blocks):
            tokens = reduce_tokens(self._reducers_before.get(i, ()), tokens, scores)
            asked = any(isinstance(reducer, TokenMerging) and reducer.needs_scores
                        for reducer in self._reducers_before.get(i + 1, ()))
            args = [tokens.x, asked, tokens.valid]
            for pruning in self._reducers_within.get(i, ()):  # one at most, that prunes
                if pruning.keep != 1:
                    args.append(Within(pruning, tokens.current_places(), tokens.thw))
            if self.with_cp and tokens.x.requires_grad:
                x, scores, pruned = checkpoint(block, *args, use_reentrant=False)
            else:
                x, scores, pruned = block(*args)
            tokens = tokens.prune(x, pruned)
            if self.out_indices is not None and i in self.out_indices:
                maps.append(tokens.keyframe_map(self._unified))
        return tokens, maps

    def _token_mask(self, valid: Tensor, tokens: TokenSequence) -> Tensor | None:
        """Valid places of a frame as valid tokens (B, T*H*W); None if all are."""
        batch, (frames, *size) = len(tokens.x), tokens.thw
        if valid.dtype != torch.bool or tuple(valid.shape) != (batch, *size):
            raise ValueError("ReducedViT: valid must be (B, H', W') bool of "
                             f'{size[0]}x{size[1]} token places for {batch} clips, got '
                             f'{valid.dtype} of shape {tuple(valid.shape)}')
        for reducer in self.reducers:
            if isinstance(reducer, TokenMerging) and reducer.ratio or (
                    isinstance(reducer, GridReducer) and reducer.keep != 1):
                raise ValueError(f'ReducedViT: {type(reducer).__name__} knows nothing '
                                 'of padding: pass clips of one size, without valid')
        if not torch.compiler.is_compiling():
            if not valid.flatten(1).any(1).all():
                raise ValueError('ReducedViT: valid marks a clip that is all padding')
            if valid.all():  # attention is faster without a mask
                return None
        return valid.flatten(1).repeat(1, frames)

    def _embed(self, x: Tensor) -> TokenSequence:
        """Patches with their position embeddings, resized for another frame size."""
        thw = tuple(side // step for side, step in
                    zip(x.shape[2:], self.patch_embed.projection.stride, strict=True))
        # A convolution leaves channels first, and every sum with it would as well.
        x, positions = self.patch_embed(x)[0].contiguous(), self.pos_embed
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
                             else None, keeps_dropped=self._keeps_dropped)
