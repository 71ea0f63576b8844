# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What hosts of deformable attention share: settings, cues, dense weights (DVT)."""
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass

from torch import Tensor, nn

from ..layers.deformable_attention import FUSIONS, KINDS
from .motion_cues import CUES, cue_channels, pair_cues

__all__ = ['DeformableSettings', 'keep_values']


@dataclass(frozen=True)
class DeformableSettings:
    """The arguments of a deformable host; see :class:`DVTMViT` for their meaning.

    Raises:
        ValueError: If one is not allowed.
    """
    host: str
    attention: str
    fusion: str
    points: int
    sub_clips: int
    cue: str
    motion_stride: int
    motion_unit: float
    scale_stride: int

    def __post_init__(self) -> None:
        for name, allowed in (('attention', KINDS), ('fusion', FUSIONS), ('cue', CUES)):
            if getattr(self, name) not in allowed:
                raise ValueError(f'{self.host}: {name}={getattr(self, name)!r}: '
                                 f'allowed are {", ".join(allowed)}')
        for name in ('points', 'sub_clips', 'motion_stride', 'scale_stride'):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f'{self.host}: {name}={value!r}: must be a whole '
                                 'number of at least 1')
        unit = self.motion_unit
        if not isinstance(unit, int | float) or not 0 < unit < float('inf'):
            raise ValueError(f'{self.host}: motion_unit={unit!r}: must be a number '
                             'above 0')

    def check_frames(self, token_frames: int) -> None:
        """Refuse sub-clips that do not divide the clip.

        Raises:
            ValueError: If they do not.
        """
        if token_frames % self.sub_clips:
            raise ValueError(f'{self.host}: sub_clips={self.sub_clips}: must divide '
                             f'the {token_frames} token frames of a clip')

    def check_size(self, imgs: Tensor, patch: int) -> None:
        """Refuse frames whose patches and cells would not lie on each other.

        Args:
            imgs: (B, 3, F, H, W).
            patch: Pixels on a side of the largest patch.

        Raises:
            ValueError: If H or W is no multiple of it.
        """
        height, width = imgs.shape[-2:]
        if 'st' in self.attention and (height % patch or width % patch):
            raise ValueError(f'{self.host}: frames of {height}x{width}: height and '
                             f'width must be multiples of {patch}, the patch of the '
                             'last block')

    def build(self, kind: Callable[..., nn.Module], *args, dim: int, num_heads: int,
              patch: int, stride: int, centred: bool) -> nn.Module:
        """One block's attention.

        Args:
            kind: Its class.
            *args: What that takes in front of these settings.
            dim: Channels.
            num_heads: Heads.
            patch: Pixels on a side of a query's patch.
            stride: Spatial stride of D-MS-A's second map.
            centred: Whether queries stand on the corners of patches, see
                :class:`~mmaction_tokenreduce.layers.SpaceTimePoints`.

        Raises:
            ValueError: If the fields' cells do not divide the patches.
        """
        if patch % self.motion_stride:
            raise ValueError(f'{self.host}: motion_stride={self.motion_stride}: must '
                             f'divide the {patch} pixels of a patch')
        return kind(*args, dim=dim, num_heads=num_heads, kind=self.attention,
                    fusion=self.fusion, points=self.points,
                    cue_channels=cue_channels(self.cue),
                    patch=patch // self.motion_stride, stride=stride,
                    centred=centred)

    def no_motion(self, imgs: Tensor) -> Tensor:
        """Zero fields (B, 2, F, h, w) for clips (B, 3, F, H, W)."""
        batch, _, frames, height, width = imgs.shape
        return imgs.new_zeros(batch, 2, frames, height // self.motion_stride,
                              width // self.motion_stride)

    def cues(self, imgs: Tensor, motion: Tensor | None,
             token_frames: int) -> Tensor | None:
        """The motion cue of a batch; None where nothing reads it.

        Args:
            imgs: (B, 3, F, H, W).
            motion: (B, 2, F, h, w) or None.
            token_frames: T.

        Raises:
            ValueError: If sizes do not fit, or fields are missing.
        """
        if 'st' not in self.attention:
            return None
        self.check_frames(token_frames)
        if imgs.shape[2] % token_frames:
            raise ValueError(f'{self.host}: clips of {imgs.shape[2]} frames make '
                             f'{token_frames} token frames: must be a multiple of them')
        return pair_cues(self.cue, imgs, motion, token_frames, self.sub_clips,
                         self.motion_stride, self.motion_unit)


def keep_values(state_dict: MutableMapping[str, Tensor], start: str, qkv: str, out: str,
                attention: nn.Module) -> None:
    """Of a dense attention's weights keep the projections of values and outputs.

    Args:
        state_dict: Changed in place.
        start: Prefix of the names of a block's deformable attention.
        qkv: What the joint projection is called after ``start``, dot or _ included.
        out: The same of the output projection.
        attention: The deformable attention, whose parts get a copy each.
    """
    parts = [name for name in ('space_time', 'multi_scale')
             if getattr(attention, name) is not None]
    for kind in ('weight', 'bias'):
        joint = state_dict.pop(f'{start}{qkv}{kind}', None)
        last = state_dict.pop(f'{start}{out}{kind}', None)
        for part in parts:
            if joint is not None:
                state_dict[f'{start}{part}.value.{kind}'] = joint.chunk(3)[2]
            if last is not None:
                state_dict[f'{start}{part}.proj.{kind}'] = last
