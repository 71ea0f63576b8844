# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""The clip around a keyframe (EVAD, section 4; SPEC: centre-32 … centre+28, step 4).

mmaction2's ``SampleAVAFrames`` shifts each frame at random in training, and counts the
first frame's number twice, so that the clip of files that count from 1 is one frame
late. Here the keyframe is exactly sampled frame ``clip_len // 2``.
"""
import numpy as np
from mmaction.registry import TRANSFORMS
from mmcv.transforms import BaseTransform


@TRANSFORMS.register_module()
class SampleKeyframeClip(BaseTransform):
    """Numbers of the frames at equal distances around a keyframe.

    The keyframe is frame ``fps * (timestamp - timestamp_start)`` of the video, counted
    from 0. Frames beyond either end of the video become its first or last one.

    Reads ``fps``, ``timestamp``, ``timestamp_start``, ``start_index`` (number of the
    first frame; 0 unless given) and ``total_frames``, or ``shot_info`` (first frame and
    the one after the last) where that is not known. Adds ``frame_inds``,
    ``clip_len``, ``frame_interval`` and ``num_clips``.

    Args:
        clip_len (int): Sampled frames. Defaults to 16.
        frame_interval (int): Video frames from one to the next. Defaults to 4.

    Raises:
        ValueError: If either is below 1, or when called, if the keyframe is not in the
            video.
    """

    def __init__(self, clip_len: int = 16, frame_interval: int = 4) -> None:
        for name, value in (('clip_len', clip_len), ('frame_interval', frame_interval)):
            if value < 1:
                raise ValueError(f'{name} of SampleKeyframeClip must be at least 1, '
                                 f'got {value}')
        self.clip_len = clip_len
        self.frame_interval = frame_interval

    def transform(self, results: dict) -> dict:
        """Add the frame numbers.

        Args:
            results (dict): The sample.

        Returns:
            dict: The sample.
        """
        total = results.get('total_frames')
        if total is None:
            first, end = results['shot_info']
            total = end - first
        seconds = results['timestamp'] - results['timestamp_start']
        centre = round(results['fps'] * seconds)
        if not 0 <= centre < total:
            raise ValueError(
                f'timestamp {results["timestamp"]} of video {results.get("video_id")} '
                f'is its frame {centre}, counted from 0, but it has {total} frames at '
                f'{results["fps"]} frames a second from timestamp '
                f'{results["timestamp_start"]} on; check fps, timestamp_start and '
                'timestamp_end of the dataset')
        frames = np.arange(self.clip_len) - self.clip_len // 2
        frames = (centre + frames * self.frame_interval).clip(0, total - 1)
        results['frame_inds'] = frames + results.get('start_index', 0)
        results['clip_len'] = self.clip_len
        results['frame_interval'] = self.frame_interval
        results['num_clips'] = 1
        return results

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(clip_len={self.clip_len}, '
                f'frame_interval={self.frame_interval})')
