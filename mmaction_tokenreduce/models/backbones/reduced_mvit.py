# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""MViT with reducers between its blocks, as v1 or v2 (STTS, Sec. 3.3).

mmaction2's ``MViT`` is v2. What v1 (the host of STTS) does otherwise are options here:
queries are pooled only where a block downscales, the norms after pooling have their own
eps, and position embeddings are separable in space and time.
"""
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from mmaction.models.backbones.mvit import MViT, resize_pos_embed
from mmaction.registry import MODELS
from mmengine.model import ModuleList
from mmengine.model.weight_init import trunc_normal_
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...layers import Carried, GridReducer, replace_linears
from ...ops.grid import Places, Size3
from ..reducers import Offer, build_reducers
from .multiscale_block import FusedBlock, pooled_size


@MODELS.register_module()
class ReducedMViT(MViT):
    """mmaction2's MViT, handed fewer tokens.

    Its own arguments are listed here, the others are those of
    :class:`mmaction.models.MViT`; checkpoints of that load unchanged.

    Args:
        reducers: Configs of grid reducers, each with ``before=i``, the block it acts
            before, e.g. ``dict(type='TemporalSelection', before=0, keep=0.625)``.
        pool_query: ``'always'`` (v2) or ``'downscale'``: pool queries only in blocks
            that downscale (v1).
        pool_norm_cfg: Norm after the q/k/v pooling; None: as ``norm_cfg``.
        separable_pos_embed: Learned position embeddings that are the sum of one per
            place of a frame and one per frame, and one of the class token (v1),
            instead of ``use_abs_pos_embed``'s joint table. Inputs of another size or
            length resize them linearly.
        with_cp: Recompute blocks in the backward pass to save memory.

    Raises:
        ValueError: If an argument is not allowed, or a reducer stands beyond the depth.
    """

    def __init__(self,
                 *args,
                 reducers: Sequence[Mapping] = (),
                 pool_query: str = 'always',
                 pool_norm_cfg: dict | None = None,
                 separable_pos_embed: bool = False,
                 with_cp: bool = False,
                 **kwargs) -> None:
        super().__init__(*args, **kwargs)  # names a misspelt argument
        if pool_query not in ('always', 'downscale'):
            raise ValueError(f'ReducedMViT: pool_query={pool_query!r}: allowed are '
                             'always, downscale')
        if separable_pos_embed and self.use_abs_pos_embed:
            raise ValueError('ReducedMViT: separable_pos_embed and use_abs_pos_embed '
                             'exclude each other')
        self.with_cp = with_cp
        # mmaction2 makes a class token in any case; unused, it would stop DDP.
        self.cls_token.requires_grad_(self.with_cls_token)
        self.blocks = ModuleList([
            FusedBlock(block, pool_query == 'always' or i in self.downscale_indices,
                       pool_norm_cfg) for i, block in enumerate(self.blocks)
        ])
        self.separable_pos_embed = separable_pos_embed
        if separable_pos_embed:
            t, h, w = self.patch_resolution
            lengths = dict(spatial=h * w, temporal=t)
            if self.with_cls_token:
                lengths['class'] = 1
            for name, length in lengths.items():
                table = nn.Parameter(torch.zeros(1, length, self.embed_dims))
                self.register_parameter(f'pos_embed_{name}', table)
        missing = {0: 'no attention has been computed there yet'}
        if not self.with_cls_token:
            missing = dict.fromkeys(range(len(self.blocks)), 'with_cls_token=False')
        self._has_relative_positions = self.blocks[0].attn.rel_pos_embed
        self.reducers, self._reducers_before, _ = build_reducers(reducers, Offer(
            type(self).__name__, [block.in_dims for block in self.blocks], missing,
            needs_regions='rel_pos_embed=True reads positions by row and column'
            if self._has_relative_positions else ''))
        replace_linears(self)

    def init_weights(self, pretrained: str | None = None) -> None:
        """As mmaction2's; separable embeddings are drawn alike (std 0.02)."""
        super().init_weights(pretrained)
        if self.separable_pos_embed and not self._loads_weights():
            for name, table in self.named_parameters(recurse=False):
                if name.startswith('pos_embed_'):
                    trunc_normal_(table, std=0.02)

    def forward(self, x: Tensor) -> tuple:
        """Clips (B, 3, T, H, W) to features of the scales ``out_scales``.

        Returns:
            A tuple with one item a scale: ``[grid (B, C, T', H', W'), cls (B, C)]``,
            or the grid alone without ``output_cls_token``. The grid is what the
            reducers left.
        """
        x, thw = self.patch_embed(x)
        thw = full = tuple(thw)
        x = self._add_positions(x, thw)
        places = attention = None  # until something is dropped, or asked for
        outs = []
        for i, block in enumerate(self.blocks):
            reducers = self._reducers_before.get(i, ())
            x, thw, places = self._reduce(reducers, x, thw, full, places, attention)
            asked = any(reducer.needs_cls_attention
                        for reducer in self._reducers_before.get(i + 1, ()))
            x, thw, attention = self._run_block(block, x, thw, full, places, asked)
            full = pooled_size(full, block.stride)
            if places is not None:
                places = places.pool(block.stride, full)
            scale = self.stage_indices.get(i)
            if scale in self.out_scales:
                x = getattr(self, f'norm{scale}')(x)
                outs.append(self._as_output(x, thw))
        return tuple(outs)

    def _reduce(self, reducers: Sequence[GridReducer], x: Tensor, thw: Size3,
                full: Size3, places: Places | None, attention: Tensor | None
                ) -> tuple[Tensor, Size3, Places | None]:
        """Run the reducers before a block; places: None until something is dropped."""
        if not reducers:
            return x, thw, places
        start = places
        if places is None and self._has_relative_positions:
            start = Places.of_full_grid(len(x), full, x.device)
        carried, before = Carried(start, attention), thw
        for reducer in reducers:
            x, thw, carried = reducer(x, thw, carried)
        return x, thw, places if thw == before else carried.places

    def _run_block(self, block: FusedBlock, x: Tensor, thw: Size3, full: Size3,
                   places: Places | None, cls_row: bool
                   ) -> tuple[Tensor, Size3, Tensor | None]:
        args = (x, thw, full, places, cls_row)
        if self.with_cp and x.requires_grad:
            return checkpoint(block, *args, use_reentrant=False)
        return block(*args)

    def _as_output(self, x: Tensor, thw: Size3):
        extra = int(self.with_cls_token)
        grid = x[:, extra:].transpose(1, 2).unflatten(2, thw)
        return [grid, x[:, 0]] if self.output_cls_token else grid

    def _add_positions(self, x: Tensor, thw: Size3) -> Tensor:
        """Tokens (B, T*H*W, C) with the class token in front and positions added."""
        # A convolution leaves channels first, and every sum with it would as well.
        x, cls = x.contiguous(), self.cls_token
        if self.separable_pos_embed:
            position = self._separable_positions(thw)
            x = (x.unflatten(1, thw) + position).flatten(1, 3)
        if self.with_cls_token:
            if self.separable_pos_embed:
                cls = cls + self.pos_embed_class
            x = torch.cat((cls.expand(len(x), -1, -1), x), dim=1)
        if self.use_abs_pos_embed:
            table = resize_pos_embed(self.pos_embed, self.patch_resolution, thw,
                                     self.interpolate_mode, self.num_extra_tokens)
            x = x + (table if self.with_cls_token else table[:, 1:])
        return x

    def _separable_positions(self, thw: Size3) -> Tensor:
        """(1, T, H, W, C), resized where the input's size or length is another."""
        t, h, w = self.patch_resolution
        space = self.pos_embed_spatial.unflatten(1, (h, w))
        if thw[1:] != (h, w):
            space = F.interpolate(space.permute(0, 3, 1, 2), thw[1:], mode='bilinear',
                                  align_corners=False).permute(0, 2, 3, 1)
        time = self.pos_embed_temporal
        if thw[0] != t:
            time = F.interpolate(time.transpose(1, 2), thw[0], mode='linear',
                                 align_corners=False).transpose(1, 2)
        return space.unsqueeze(1) + time[:, :, None, None]

    def _loads_weights(self) -> bool:
        cfgs = self.init_cfg if isinstance(self.init_cfg, list) else [self.init_cfg]
        return any(cfg and cfg.get('type') == 'Pretrained' for cfg in cfgs)
