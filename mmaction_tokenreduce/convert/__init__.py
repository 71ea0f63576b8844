# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Released checkpoints to our names: one module a source, strict (torch only)."""
from collections.abc import Callable
from dataclasses import dataclass

from .evad import convert_evad
from .files import read_checkpoint, write_checkpoint
from .mmaction2 import convert_mmaction2
from .slowfast_mvit import convert_slowfast_mvit
from .state_dict import Conversion, Rule, convert_state_dict, target_shapes
from .stts_mvit import convert_stts_mvit
from .stts_swin import convert_stts_swin
from .timm_vit import convert_timm_vit
from .video_swin import convert_video_swin
from .videomae import convert_videomae

__all__ = [
    'CONVERTERS', 'Conversion', 'Converter', 'Rule', 'convert_evad',
    'convert_mmaction2', 'convert_slowfast_mvit', 'convert_state_dict',
    'convert_stts_mvit', 'convert_stts_swin', 'convert_timm_vit', 'convert_video_swin',
    'convert_videomae', 'read_checkpoint', 'target_shapes', 'write_checkpoint'
]


@dataclass(frozen=True)
class Converter:
    """How checkpoints of one source are converted.

    Attributes:
        convert: ``convert(state_dict, target)`` to a Conversion; also takes
            ``reducers``, those of the target's config, where ``takes_reducers``.
        config: The config whose model they fit, relative to the project's root.
        about: What the checkpoints are.
        takes_reducers: See ``convert``.
    """
    convert: Callable[..., Conversion]
    config: str
    about: str
    takes_reducers: bool = False


CONVERTERS: dict[str, Converter] = {
    'evad':
    Converter(convert_evad, 'configs/evad/vit_base_released_ava.py',
              'EVAD, ViT-B or, with --config, another'),
    'slowfast_mvit':
    Converter(convert_slowfast_mvit, 'configs/stts/mvit_dense_k400.py',
              'PySlowFast, MViTv1-B 16x4'),
    'stts_mvit':
    Converter(convert_stts_mvit, 'configs/stts/mvit_t06_s09_k400.py',
              'STTS, MViT-B16 with selectors', takes_reducers=True),
    'video_swin':
    Converter(convert_video_swin, 'configs/stts/swin_base_dense_k400.py',
              'Video-Swin-Transformer, Swin-B'),
    'stts_swin':
    Converter(convert_stts_swin, 'configs/stts/swin_base_t06_padded_k400.py',
              'STTS, VideoSwin-B with selectors', takes_reducers=True),
    'timm_vit':
    Converter(convert_timm_vit, 'configs/sttm/timesformer_dense_k400.py',
              'timm, image ViT-B/16 to start TimeSformer or, with --config, another '
              'TimeSformer or ViT from'),
    'videomae':
    Converter(convert_videomae, 'configs/evad/vit_base_ava.py',
              'VideoMAE and VideoMAE v2, pre-trained or fine-tuned, to start EVAD or, '
              'with --config, another model around ReducedViT from'),
    'mmaction2':
    Converter(convert_mmaction2, 'configs/stts/swin_base_dense_k400.py',
              'mmaction2, Swin or, with --config, MViT or VideoMAE'),
}
