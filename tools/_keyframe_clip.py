# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""The clip around one keyframe of a video, or of a folder of frames, for detectors."""
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from _clips import test_dataset
from _video_source import FileSource, Frame, Source
from _video_windows import Window, WindowPipeline
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.structures import InstanceData
from torch import nn

from mmaction_tokenreduce.datasets import BadVideoError
from mmaction_tokenreduce.datasets.frame_folders import numbering
from mmaction_tokenreduce.engine.user_errors import ConfigError
from mmaction_tokenreduce.visualization.kept import Box

AVA_FPS = 30  # of a dataset that does not say
GREY = 114  # what padding is, once it is normalised


class FolderSource(Source):
    """A folder of numbered images, as data sets in AVA's format have it.

    Args:
        path: The folder.
        fps: Frames a second.

    Attributes:
        first: The frame, counted from 0, that iterating begins with.

    Raises:
        BadVideoError: If it holds no frames, or some are missing; when iterated, if one
            cannot be read.
    """
    live = False

    def __init__(self, path: str, fps: float) -> None:
        super().__init__()
        self.path, self.name, self.fps, self.first = path, Path(path).name, fps, 0
        found = numbering(os.listdir(path))
        if found is None or found.gaps:
            what = 'no numbered images' if found is None else str(found)
            raise BadVideoError(f'folder {path} cannot be read: it holds {what}')
        self._numbering, self.total = found, found.count

    def __exit__(self, *error: Any) -> None:
        pass

    def __iter__(self) -> Iterator[Frame]:
        size = None
        for number in range(self.first, self.total):
            path = os.path.join(self.path, self._numbering.template.format(
                self._numbering.first + number))
            image = cv2.imread(path, cv2.IMREAD_COLOR)
            if image is None:
                raise BadVideoError(f'frame {path} cannot be read: it is no image')
            size = size or image.shape[:2]
            yield Frame(number, number / self.fps,
                        av.VideoFrame.from_ndarray(image, format='bgr24'), size)


@dataclass(eq=False)
class KeyframeClip:
    """A clip of a video around a keyframe, as a detector takes it.

    Attributes:
        name: Of the video.
        window: The sampled frames; its anchor is the number of the keyframe.
        frames: All frames of the video from the first sampled one to the last.
        fps: Of the video.
        packed: What the test pipeline made of it.
        view: The part of the frame that the model sees.
        found: What the detector found; boxes are shares of the view.
        size: Frames, height and width with padding, once the detector was asked.
    """
    name: str
    window: Window
    frames: list[Frame]
    fps: float
    packed: Mapping[str, Any]
    view: Box
    found: InstanceData | None = None
    size: tuple[int, int, int] = (0, 0, 0)

    def batch(self) -> dict[str, Any]:
        """A batch of this clip alone."""
        return pseudo_collate([self.packed])

    def pad(self, model: nn.Module) -> np.ndarray:
        """Note the size with padding; the images (F, H, W, 3) uint8 RGB with it.

        Args:
            model: Its data preprocessor pads.
        """
        images = self.packed['inputs'].permute(1, 2, 3, 0).numpy()
        inputs = model.data_preprocessor(self.batch(), False)['inputs']
        self.size = tuple(inputs.shape[2:])
        beyond = [(0, after - now) for after, now in zip(self.size, images.shape[:3],
                                                         strict=True)]
        return np.pad(images, (*beyond, (0, 0)), constant_values=GREY)

    def boxes(self) -> np.ndarray:
        """(n, 4) left, top, right, bottom of what was found, as shares of the frame."""
        top, left, bottom, right = self.view
        boxes = self.found.bboxes.float().cpu().numpy().reshape(-1, 4)
        return (left, top) * 2 + boxes * ((right - left, bottom - top) * 2)


def read_keyframe_clip(config: Config, path: str, video: str,
                       seconds: float | None) -> KeyframeClip:
    """Read the clip around a keyframe as the test pipeline of a config samples it.

    Args:
        config: The config; the rate of a folder of frames is its test dataset's ``fps``
            (30 unless given).
        path: Its file, for messages.
        video: A video file, or a folder of numbered images.
        seconds: Of the keyframe, from the first frame; None for the middle one.

    Raises:
        ConfigError: If there is no such frame, or no such test pipeline.
        BadVideoError: If the video cannot be read.
    """
    pipeline = WindowPipeline(config, path, detects=True)
    fps = float(test_dataset(config).get('fps') or AVA_FPS)
    with _open(video, fps) as source:
        sampling = pipeline.sampling(None, source.fps)
        total = source.total or _count(video)
        anchor = total // 2 if seconds is None else round(seconds * source.fps)
        first, last = anchor - sampling.lead, anchor + sampling.tail
        frames, total = _between(source, first, last)
        if not 0 <= anchor < total:
            at = '' if seconds is None else f'--time {seconds:g}: '
            raise ConfigError(f'{at}frame {anchor} is not in {video}, which has '
                              f'{total} frames, {total / source.fps:.2f} s')
        inds = sampling.inds(anchor, total)
        window = Window(anchor, min(last, total - 1), 0, inds,
                        [frames[number] for number in inds.tolist()], sampling.key)
        return KeyframeClip(source.name, window, list(frames.values()), source.fps,
                            pipeline.pack(window),
                            pipeline.views(window.frames[0].size)[0])


def _open(video: str, fps: float) -> Source:
    return FolderSource(video, fps) if os.path.isdir(video) else FileSource(video)


def _count(video: str) -> int:
    """Frames of a file that does not say how many it has."""
    with FileSource(video) as source:
        return sum(1 for _ in source)


def _between(source: Source, first: int, last: int) -> tuple[dict[int, Frame], int]:
    """The frames of a source in a range, and how many were seen to be there."""
    if isinstance(source, FolderSource):
        source.first = min(max(first, 0), source.total - 1)
    frames, total = {}, 0
    for frame in source:
        total = frame.number + 1
        if frame.number >= first:
            frames[frame.number] = frame
        if frame.number >= last:
            break
    return frames, total
