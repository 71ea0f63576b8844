# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Frames and displacement fields of a video, in place of mmaction2's decoders.

DVT (seed 004), section 3.2. Between `MotionInit` and `MotionDecode` goes any of
mmaction2's samplers.
"""
import logging
import os

import numpy as np
from mmaction.registry import TRANSFORMS
from mmcv.transforms import BaseTransform
from mmengine.logging import print_log

from ..motion_stream import FLOW_METHODS, MotionReader, flow_fields

SOURCES = ('stream', 'optical_flow')

_warned: set[tuple[str, str]] = set()


@TRANSFORMS.register_module()
class MotionInit(BaseTransform):
    """Open a video for `MotionDecode`.

    Reads the packets but decodes nothing. Adds ``video_reader``, ``total_frames``
    (counted, so right for containers that do not say) and, where the file tells it,
    ``avg_fps``.

    Required keys: ``filename``. A name without a suffix gets ``.mp4`` where there is no
    such file, as mmaction2's DecordInit does.
    """

    def transform(self, results: dict) -> dict:
        """Open the video.

        Args:
            results (dict): The sample.

        Returns:
            dict: The sample.

        Raises:
            BadVideoError: If the file is missing or damaged.
        """
        filename = results['filename']
        if not os.path.splitext(filename)[1] and not os.path.exists(filename):
            filename = f'{filename}.mp4'
        reader = MotionReader(filename)
        results['video_reader'] = reader
        results['total_frames'] = reader.total_frames
        if reader.avg_fps is not None:
            results['avg_fps'] = reader.avg_fps
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'


@TRANSFORMS.register_module()
class MotionDecode(BaseTransform):
    """Decode the sampled frames, and the motion between them, in one pass.

    Adds

    - ``imgs``: F arrays (H, W, 3) uint8, F = frames of all clips;
    - ``motion``: (F, h, w, 2) float32, right and down in px of the current image:
      content at p in frame f stood at p + d in frame f - 1 of its clip; zero for the
      first frame of a clip;
    - ``motion_shape``: (H, W), the image size that ``motion`` belongs to;
    - ``motion_flags``: what was met. ``source``; ``codec``; ``corrupt_frames``, that
      were asked and decoded with errors; and from the stream ``no_vectors``,
      ``intra_frames`` (bridged), ``intra_share`` (of the area of predicted frames: zero
      motion), ``b_frames`` (used), ``references`` (the most that a frame has),
      ``several_references``, ``interlaced`` and ``reversed_pairs`` (where the clip
      begins again).

    Required keys: ``video_reader`` of `MotionInit`, ``frame_inds``, ``clip_len``.

    Args:
        fields (str): ``'stream'``, from the motion vectors, or ``'optical_flow'``, from
            the sampled frames. Defaults to ``'stream'``.
        spacing (float): Distance of the grid's points in px of the video. Defaults to
            4.
        flow (str): The optical flow: ``'tvl1'`` (DVT's Table 1; seconds a frame at full
            size) or ``'dis'`` (milliseconds). Defaults to ``'tvl1'``.
        threads (int): Decoding threads for the slices of a frame; most files have one
            slice. FFmpeg's threads over frames are not offered, since H.264's vectors
            come out wrong with them. Defaults to 1.

    Raises:
        ValueError: If an argument is none of these.
    """

    def __init__(self, fields: str = 'stream', spacing: float = 4, flow: str = 'tvl1',
                 threads: int = 1) -> None:
        if fields not in SOURCES:
            raise ValueError(f'fields of MotionDecode must be one of {SOURCES}, '
                             f'got {fields!r}')
        if flow not in FLOW_METHODS:
            raise ValueError(f'flow of MotionDecode must be one of '
                             f'{tuple(FLOW_METHODS)}, got {flow!r}')
        if not spacing > 0:
            raise ValueError(f'spacing of MotionDecode must be above 0, got {spacing}')
        if threads < 1:
            raise ValueError(
                f'threads of MotionDecode must be at least 1, got {threads}')
        self.fields, self.spacing = fields, spacing
        self.flow, self.threads = flow, threads

    def transform(self, results: dict) -> dict:
        """Decode.

        Args:
            results (dict): The sample.

        Returns:
            dict: The sample.

        Raises:
            BadVideoError: If a frame cannot be decoded.
            TypeError: If the video was not opened by `MotionInit`.
        """
        reader = results['video_reader']
        if not isinstance(reader, MotionReader):
            raise TypeError('MotionDecode needs the video_reader of MotionInit, got '
                            f'{type(reader).__name__}')
        inds = np.asarray(results['frame_inds']).ravel()
        results['frame_inds'] = inds
        clip_len = results['clip_len']
        from_stream = self.fields == 'stream'
        decoded = reader.read(inds, clip_len, self.spacing if from_stream else None,
                              self.threads)
        motion = decoded.fields if from_stream else flow_fields(
            decoded.imgs, inds, clip_len, self.spacing, self.flow)
        results['video_reader'] = None
        results['imgs'], results['motion'] = decoded.imgs, motion
        shape = decoded.imgs[0].shape[:2]
        results['original_shape'] = results['img_shape'] = shape
        results['motion_shape'] = shape
        results['motion_flags'] = dict(decoded.flags, source=self.fields)
        if decoded.flags.get('no_vectors'):
            _warn_once(reader.filename, reader.codec)
        return results

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(fields={self.fields!r}, '
                f'spacing={self.spacing}, flow={self.flow!r}, threads={self.threads})')


def _warn_once(filename: str, codec: str) -> None:
    """Say that there are no vectors, once for each kind of file and process."""
    suffix = os.path.splitext(filename)[1]
    if (suffix, codec) in _warned:
        return
    _warned.add((suffix, codec))
    print_log(f'{filename}: no motion vectors (*{suffix}, {codec}), its displacement '
              'fields are zero. FFmpeg exports none of HEVC, VP9 and AV1, and intra '
              'coded video has none; tools/data/transcode_h264.py makes H.264 with '
              'vectors. '
              'Further files of this kind are not reported.',
              logger='current', level=logging.WARNING)
