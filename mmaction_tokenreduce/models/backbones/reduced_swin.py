# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Video Swin with reducers between its stages (STTS, Sec. 4.1-4.2).

What deviates from the paper: regions of frames can be selected as well (the paper keeps
to frames in Video Swin), and windows are cut without padding in time unless
``window_mode='padded'`` asks for the release's arithmetic.

Legend: B batch, T H W grid of tokens, C channels.
"""
import warnings
from collections.abc import Mapping, Sequence

from mmaction.models.backbones.swin import SwinTransformer3D
from mmaction.registry import MODELS
from mmengine.model import ModuleList
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...layers import SpatialSelection, replace_linears
from ...ops.grid import Size3
from ...ops.windows import window_plan
from ..reducers import Offer, build_reducers
from .window_block import FusedWindowBlock

_WINDOW_MODES = ('packed', 'padded')


@MODELS.register_module()
class ReducedSwin3D(SwinTransformer3D):
    """mmaction2's Video Swin, handed fewer tokens.

    Its own arguments are listed here, the others are those of
    :class:`mmaction.models.SwinTransformer3D`; checkpoints of that load unchanged.

    Args:
        reducers: Configs of grid reducers, each with ``before=i``, the stage it acts
            before, e.g. ``dict(type='TemporalSelection', before=0, keep=0.625)``.
        window_mode: ``'packed'``: T kept frames are cut into windows of near-equal
            length, at most the window's, and nothing is computed on padding in time.
            ``'padded'``: they are filled up to a multiple of the window with zeros that
            are attended to, as in the release and in mmaction2. Both count distances
            in time between kept frames, not between those of the video, and are the
            dense model where the token frames fill whole windows.

    Raises:
        ValueError: If an argument is not allowed, or a reducer stands beyond the depth.
    """

    def __init__(self,
                 *args,
                 reducers: Sequence[Mapping] = (),
                 window_mode: str = 'packed',
                 **kwargs) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', 'torch.meshgrid')  # mmaction2's call
            super().__init__(*args, **kwargs)  # names a misspelt argument
        if window_mode not in _WINDOW_MODES:
            raise ValueError(f'ReducedSwin3D: window_mode={window_mode!r}: allowed are '
                             f'{", ".join(_WINDOW_MODES)}')
        self.window_mode = window_mode
        if self.pretrained is None:
            self.pretrained2d = False  # or init_weights would look for a file
        # Before the first stage tokens are as wide as the first stage, and so on.
        widths = [layer.embed_dims for layer in self.layers]
        missing = dict.fromkeys(range(len(widths)), 'Video Swin has no class token')
        self.reducers, self._reducers_before, _ = build_reducers(reducers, Offer(
            type(self).__name__, widths, missing,
            needs_regions='windows read relative positions by row and column'))
        # Regions make small windows whose distances the sliced index gets wrong.
        sliced = window_mode == 'padded' and not any(
            isinstance(reducer, SpatialSelection) for reducer in self.reducers)
        for layer in self.layers:
            layer.blocks = ModuleList(
                [FusedWindowBlock(block, sliced) for block in layer.blocks])
        replace_linears(self)

    def train(self, mode: bool = True) -> 'ReducedSwin3D':
        """As mmaction2's, which returns nothing."""
        super().train(mode)
        return self

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Clips (B, 3, T, H, W) to features of the stages ``out_indices``.

        Returns:
            (B, C, T', H', W') on the grid that the reducers left; a tuple of such where
            there are several stages.
        """
        x = self.patch_embed(x)
        thw = tuple(x.shape[2:])
        x = self.pos_drop(x.flatten(2).transpose(1, 2).contiguous())  # (B, T*H*W, C)
        outs = []
        for i, layer in enumerate(self.layers):
            for reducer in self._reducers_before.get(i, ()):
                x, thw = reducer(x, thw)
            x = self._run_blocks(layer.blocks, x, thw)
            merged, merged_thw = x, thw
            if layer.downsample is not None:
                grid = layer.downsample(x.unflatten(1, thw))  # (B, T, H', W', 2C)
                merged, merged_thw = grid.flatten(1, 3), tuple(grid.shape[1:4])
            if i in self.out_indices:
                out, out_thw = ((merged, merged_thw) if self.out_after_downsample else
                                (x, thw))
                out = getattr(self, f'norm{i}')(out)
                outs.append(out.transpose(1, 2).unflatten(2, out_thw).contiguous())
            x, thw = merged, merged_thw
        return outs[0] if len(outs) == 1 else tuple(outs)

    def _run_blocks(self, blocks: nn.ModuleList, x: Tensor, thw: Size3) -> Tensor:
        window, packed = tuple(self.window_size), self.window_mode == 'packed'
        plans = {shifted: window_plan(len(x), thw, window, shifted, packed, x.device)
                 for shifted in {block.is_shifted for block in blocks}}
        for block in blocks:
            plan = plans[block.is_shifted]
            if block.with_cp and x.requires_grad:
                x = checkpoint(block, x, plan, use_reentrant=False)
            else:
                x = block(x, plan)
        return x
