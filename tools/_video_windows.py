# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Windows that slide over a stream of frames, sampled as a test pipeline says.

Only frames that a window still needs, or that wait for its answer before they are
shown, are held: their number does not depend on the length of the video.

Legend: F sampled frames of a window, V views of it (crops).
"""
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from _clips import checked_inputs, test_steps
from _video_source import Frame
from mmengine.config import Config

from mmaction_tokenreduce.datasets.motion_stream import MotionReader, flow_fields
from mmaction_tokenreduce.datasets.transforms import MotionDecode
from mmaction_tokenreduce.engine.user_errors import ConfigError
from mmaction_tokenreduce.visualization.kept import Box

FAR = 10 ** 6  # a keyframe that is far from both ends
ANY_SAMPLE = dict(start_index=0, modality='RGB', filename='', video_id='', img_key='')


class Window(NamedTuple):
    """One clip of a video.

    Attributes:
        anchor: Number of its first frame; of a detector's, the keyframe.
        last: Number of its last frame.
        shown_from: First frame that its answer is shown on.
        inds: (F, ) numbers of the sampled frames.
        frames: They.
        key: Which of the sampled frames the anchor is.
    """
    anchor: int
    last: int
    shown_from: int
    inds: np.ndarray
    frames: list[Frame]
    key: int = 0

    def sampled(self, number: int) -> int | None:
        """Which sampled frame stands for a frame: the latest one until then.

        Returns:
            Its place among F; None for frames after the window.
        """
        if number > self.last:
            return None
        past = np.where(self.inds <= number, self.inds, -1)
        latest = np.flatnonzero(past == past.max())
        # the first and the last frame of a video may stand for several
        return int(latest[np.abs(latest - self.key).argmin()])


class ClipSampling:
    """Windows of recognition: one clip by a sampler of mmaction2 that sees the window
    alone.

    Args:
        sampler: Gives ``frame_inds`` of a video with ``total_frames``; one clip.
        length: Frames of a window; None for a sampler with ``frame_interval``, which
            says it.
        fps: Of the video, for samplers that resample it.
        path: The config file, for messages.

    Raises:
        ConfigError: If the sampler does not say how long a window is, or takes more
            than one clip.

    Attributes:
        lead: Frames of a window before its anchor.
        length: Frames of a window.
        default_stride: Frames from one window to the next: they follow each other.
    """
    lead, key = 0, 0

    def __init__(self, sampler: Any, length: int | None, fps: float,
                 path: str) -> None:
        self.sampler, self.fps = sampler, fps
        sampler.num_clips, sampler.test_mode = 1, True
        if getattr(sampler, 'twice_sample', False):
            sampler.twice_sample = False
        name = type(sampler).__name__
        says = getattr(sampler, 'frame_interval', None) is not None
        if length is not None and says:
            raise ConfigError(f'--window {length}: {name} of the test pipeline of '
                              f'{path} says how long a clip is; change its '
                              'frame_interval with --cfg-options')
        if length is None and not says:
            raise ConfigError(f'{name} of the test pipeline of {path} spreads its '
                              'frames over the whole video: say with --window how many '
                              'frames a window has')
        self.length = length or self._own_length()
        if length is not None and length < sampler.clip_len:
            raise ConfigError(f'--window {length}: must be at least '
                              f'{sampler.clip_len}, clip_len of {name}')
        if len(self.inds(0, self.length)) != sampler.clip_len:
            raise ConfigError(f'config file {path}: {name} of the test pipeline takes '
                              'several clips of a window; it must take one')
        self.default_stride = self.length

    def _own_length(self) -> int:
        interval = self.sampler.frame_interval
        if getattr(self.sampler, 'target_fps', None):
            ratio = self.fps / self.sampler.target_fps
            return max(1, int(self.sampler.clip_len * interval * ratio))
        return (self.sampler.clip_len - 1) * interval + 1

    @property
    def tail(self) -> int:
        """Frames of a window after its anchor."""
        return self.length - 1

    def inds(self, anchor: int, total: int) -> np.ndarray:
        """(F, ) numbers of the frames of a window, of a video that has ``total``."""
        results = dict(total_frames=min(total, self.length), start_index=0,
                       avg_fps=self.fps)
        return anchor + self.sampler(results)['frame_inds'].astype(np.int64)

    def closing(self, total: int, taken: int | None, following: int,
                stride: int) -> Iterable[int]:
        """Anchors of windows that end with the video.

        Args:
            total: Frames of the video.
            taken: Anchor of the last window; None where there was none.
            following: The anchor that would have come next.
            stride: Frames from anchor to anchor.
        """
        if taken is None:
            return [0]
        first = total - self.length
        return [first] if following < total and first > taken else []


class KeyframeSampling:
    """Windows of detection: a clip around each keyframe.

    Args:
        sampler: ``SampleKeyframeClip`` or ``SampleAVAFrames``.

    Attributes:
        lead: Frames of a window before its keyframe.
        tail: Frames of a window after it.
        default_stride: Frames from one keyframe to the next, an eighth of a window.
    """

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler
        sampler.test_mode = True
        inds = self.inds(FAR, 2 * FAR) - FAR
        self.lead, self.tail = int(-inds.min()), int(inds.max())
        self.key = int(np.flatnonzero(inds == 0)[0])
        self.length = self.lead + 1 + self.tail
        self.default_stride = max(1, self.length // 8)

    def inds(self, anchor: int, total: int) -> np.ndarray:
        """(F, ) numbers of the frames of a window, of a video that has ``total``."""
        results = dict(total_frames=total, shot_info=(0, total), fps=1, start_index=0,
                       timestamp=anchor, timestamp_start=0)
        return self.sampler(results)['frame_inds'].astype(np.int64)

    def closing(self, total: int, taken: int | None, following: int,
                stride: int) -> Iterable[int]:
        """Keyframes whose windows reach beyond the end of the video."""
        return range(following, total, stride)


Sampling = ClipSampling | KeyframeSampling


class WindowPipeline:
    """The test pipeline of a config, cut where it decodes.

    Args:
        config: The config.
        path: Its file, for messages.
        detects: Whether the model is a detector.

    Raises:
        ConfigError: If there is no such pipeline.
    """

    def __init__(self, config: Config, path: str, detects: bool) -> None:
        self.path, self.detects = path, detects
        steps = test_steps(config, path)
        names = [type(step).__name__ for step in steps]
        at = next((i for i, name in enumerate(names) if name.endswith('Decode')), 0)
        self.sampler = steps[at - 1] if at else None
        needed = ('SampleKeyframeClip', 'SampleAVAFrames') if detects else ()
        fits = at > 0 and hasattr(self.sampler, 'clip_len') and (
            not needed or names[at - 1] in needed)
        if not fits:
            what = ' or '.join(needed) or 'a sampler of frames'
            raise ConfigError(f'config file {path}: the test pipeline must have {what} '
                              f'and then a decoder, got {", ".join(names)}')
        self.decode, self.rest = steps[at], steps[at + 1:]
        self.takes_motion = isinstance(self.decode, MotionDecode)
        self._reader: MotionReader | None = None

    def open(self, video: str, live: bool) -> None:
        """Prepare for a video; only motion of its stream is read from the file again.

        Raises:
            ConfigError: If the model needs a compressed stream and there is none.
            BadVideoError: If its motion cannot be read.
        """
        if not self.takes_motion or self.decode.fields != 'stream':
            return
        if live:
            raise ConfigError(
                f'config file {self.path}: MotionDecode reads the motion of a '
                'compressed stream, which a camera does not give: use a video file, or '
                "a config with fields='optical_flow' of MotionDecode")
        self._reader = MotionReader(video)

    def sampling(self, length: int | None, fps: float) -> Sampling:
        """How windows are sampled.

        Args:
            length: ``--window``.
            fps: Of the video.

        Raises:
            ConfigError: If ``length`` does not fit the pipeline.
        """
        if not self.detects:
            return ClipSampling(self.sampler, length, fps, self.path)
        if length is not None:
            raise ConfigError(f'--window {length}: {type(self.sampler).__name__} of '
                              f'the test pipeline of {self.path} says how long a clip '
                              'is')
        return KeyframeSampling(self.sampler)

    def pack(self, window: Window) -> dict[str, Any]:
        """The window as a sample of the test dataset.

        Raises:
            ConfigError: If the pipeline does not give what the model takes.
            BadVideoError: If motion cannot be read.
        """
        results = dict(ANY_SAMPLE, frame_inds=window.inds, clip_len=len(window.inds),
                       timestamp=window.anchor, num_clips=1)
        if self._reader is not None:
            results = self.decode(dict(results, video_reader=self._reader))
        else:
            imgs = [frame.rgb() for frame in window.frames]
            shape = imgs[0].shape[:2]
            results.update(imgs=imgs, original_shape=shape, img_shape=shape)
            if self.takes_motion:
                motion = flow_fields(imgs, window.inds, len(imgs), self.decode.spacing,
                                     self.decode.flow)
                results.update(motion=motion, motion_shape=shape)
        packed = self._run(results)
        if not self.detects:
            checked_inputs(packed.get('inputs'), self.path, self.takes_motion)
        return packed

    def _run(self, results: dict[str, Any]) -> dict[str, Any]:
        try:
            for step in self.rest:
                results = step(results)
        except KeyError as error:
            raise ConfigError(
                f'config file {self.path}: the test pipeline asks for {error} of a '
                'sample, which a video does not give') from error
        return results if isinstance(results, Mapping) else {}

    def views(self, size: tuple[int, int]) -> list[Box]:
        """The part of a frame (height, width) that each view shows.

        Places of the frame, as colours, are sent through the pipeline. Views that are
        flipped have left and right exchanged.
        """
        height, width = size
        places = np.zeros((height, width, 3), np.float32)
        places[..., 0] = (np.arange(height, dtype=np.float32) + 0.5)[:, None] / height
        places[..., 1] = (np.arange(width, dtype=np.float32) + 0.5) / width
        inputs = self._run(dict(
            ANY_SAMPLE, imgs=[places], original_shape=size, img_shape=size, num_clips=1,
            frame_inds=np.zeros(1, int), clip_len=1, timestamp=0))['inputs']
        inputs = inputs.numpy().reshape(-1, 3, *inputs.shape[-2:])
        boxes = []
        for view in inputs:
            rows, columns = view.shape[1:]
            top, bottom = _ends(view[0, :, columns // 2])
            left, right = _ends(view[1, rows // 2])
            boxes.append((top, left, bottom, right))
        return boxes


def _ends(ramp: np.ndarray) -> tuple[float, float]:
    """Where a linear ramp, sampled at the centres of pixels, begins and ends.

    Its own ends are bent by interpolation, so that its inner half is looked at.
    """
    low, high = len(ramp) // 4, len(ramp) - 1 - len(ramp) // 4
    step = (ramp[high] - ramp[low]) / (high - low) if high > low else 0.
    return (float(ramp[low] - step * (low + 0.5)),
            float(ramp[high] + step * (len(ramp) - high - 0.5)))


class WindowStream:
    """Takes frames in, has windows answered in batches, and gives frames out with the
    answer that belongs to them, in order.

    Args:
        sampling: How windows are sampled.
        stride: Frames from one window to the next.
        batch: Windows that are answered at once.
        answer: Gives one answer for each window of a batch.
        show: Takes each frame, with its window and the answer.

    Attributes:
        most_held: The most frames that were held at once.
    """

    def __init__(self, sampling: Sampling, stride: int, batch: int,
                 answer: Callable[[Sequence[Window]], Sequence[Any]],
                 show: Callable[[Frame, Window, Any], None]) -> None:
        self.sampling, self.stride, self.batch = sampling, stride, batch
        self._answer, self._show = answer, show
        self.total = self.most_held = 0
        self._held: deque[Frame] = deque()
        self._following, self._taken = 0, None  # anchors of the next window, the last
        self._pending: list[Window] = []
        self._answered: deque[tuple[Window, Any]] = deque()
        self._shown = 0  # frames

    @staticmethod
    def holds_at_most(sampling: Sampling, stride: int, batch: int) -> int:
        """The most frames that are ever held."""
        return sampling.length + 1 + (batch - 1) * stride

    def feed(self, frame: Frame) -> None:
        """Take the next frame."""
        self._held.append(frame)
        self.total = frame.number + 1
        self.most_held = max(self.most_held, len(self._held))
        if self._following + self.sampling.tail < self.total:
            self._take(self._following)
            self._following += self.stride
        if len(self._pending) == self.batch:
            self._flush()
        self._move()

    def finish(self) -> None:
        """Answer what is left and show all frames; the video has ended."""
        if not self.total:
            return
        for anchor in self.sampling.closing(self.total, self._taken, self._following,
                                            self.stride):
            self._take(anchor)
            self._following = max(self._following, anchor) + self.stride
            if len(self._pending) == self.batch:
                self._flush()
        if self._pending:
            self._flush()
        self._show_until(self.total)

    def _take(self, anchor: int) -> None:
        inds = self.sampling.inds(anchor, self.total)
        first = self._held[0].number
        self._pending.append(Window(
            anchor, min(anchor + self.sampling.tail, self.total - 1),
            max(anchor, self._following), inds,
            [self._held[number - first] for number in inds], self.sampling.key))
        self._taken = anchor

    def _flush(self) -> None:
        answers = self._answer(self._pending)
        self._answered.extend(zip(self._pending, answers, strict=True))
        self._pending = []

    def _move(self) -> None:
        """Show frames whose answer is known, drop those that nothing needs."""
        if not self._answered:
            return
        self._show_until(self._pending[0].shown_from if self._pending
                         else min(self._following, self.total))
        # the last window of a video may begin a whole length before its end
        needed = min(self._shown, self._following - self.sampling.lead,
                     self.total - self.sampling.length)
        while self._held and self._held[0].number < needed:
            self._held.popleft()

    def _show_until(self, end: int) -> None:
        first = self._held[0].number if self._held else end
        for number in range(self._shown, end):
            while len(self._answered) > 1 and self._answered[1][0].shown_from <= number:
                self._answered.popleft()
            self._show(self._held[number - first], *self._answered[0])
        self._shown = max(self._shown, end)
