# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""One decoding pass: the sampled frames, and the displacement fields between them."""
import bisect
import io
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import av
import numpy as np
from mmengine import fileio

from ...ops.motion_vectors import grid_points, invert_displacement, trace
from ..video_dataset import BadVideoError, missing_or_empty
from .h264 import HeaderReader
from .steps import Link, StepBuilder

_SEEK_FROM = 16  # frames; starting later than this is worth a seek
_NEAR = 8  # frames before a span, where a velocity is taken from
_DPB_SIZE = 16  # the most references that H.264 keeps
_TRACED_AT_ONCE = 16  # frames; painting many vectors at once takes less time for each


class Decoded(NamedTuple):
    """What a pass gives.

    Attributes:
        imgs (list[np.ndarray]): F frames, each (H, W, 3) uint8 RGB, an array of its own
            also where a frame is asked twice (mmaction2's Flip works in place).
        fields (np.ndarray, optional): (F, h, w, 2) float32 px.
        flags (dict[str, Any]): What was met on the way.
    """

    imgs: list[np.ndarray]
    fields: np.ndarray | None
    flags: dict[str, Any]


class _OutOfStep(Exception):
    """Frames do not come as the index says; the next, slower way is tried."""


class VideoIndex(NamedTuple):
    """Times of a video's frames, from its packets.

    Attributes:
        total (int): Number of frames.
        numbers (dict[int, int], optional): Display number by time stamp; None where the
            container has no usable ones.
        keys (list[tuple[int, int]]): Number and time stamp of each key frame, in order.
    """

    total: int
    numbers: dict[int, int] | None
    keys: list[tuple[int, int]]


class MotionReader:
    """A video of which frames and the motion between them can be read.

    Args:
        filename (str): A file, or an address of mmengine's file backends.

    Attributes:
        filename (str): As given.
        codec (str): FFmpeg's name of the codec.
        total_frames (int): Counted packets, so right for containers that do not say.
        avg_fps (float, optional): Frames a second, where the container says.

    Raises:
        BadVideoError: If the file is missing, empty, no video or damaged.
    """

    def __init__(self, filename: str) -> None:
        self.filename = filename
        self._data = None
        if '://' in filename:
            self._data = fileio.get(filename)
        else:
            reason = missing_or_empty(filename)
            if reason is not None:
                raise BadVideoError(f'video {filename} cannot be read: {reason}')
        try:
            with self._open() as container:
                self._scan(container)
        except (av.FFmpegError, OSError) as error:
            raise self._bad(error.strerror or str(error)) from error
        if not self.total_frames:
            raise self._bad('it has no frames')

    def read(self, frame_inds: np.ndarray, clip_len: int, spacing: float | None = 4,
             threads: int = 1) -> Decoded:
        """Decode frames, and trace the motion between those that follow each other.

        Args:
            frame_inds (np.ndarray): Numbers of the frames, clip by clip; any order, and
                any number may come again. Those beyond the end count from the start
                again, as in mmaction2's PyAVDecode.
            clip_len (int): Frames of a clip.
            spacing (float, optional): Distance of traced points in px. None: no fields.
            threads (int): Decoding threads, which work on the slices of one frame.
                With FFmpeg's threads over frames, vectors of H.264 came out wrong.

        Returns:
            Decoded: Frames, fields and flags.

        Raises:
            BadVideoError: If a frame cannot be decoded.
        """
        wanted = np.asarray(frame_inds).reshape(-1, clip_len)
        try:
            for seek, by_time in ((True, True), (False, True)):
                try:
                    return self._read(wanted, spacing, threads, seek, by_time)
                except _OutOfStep:
                    continue
            return self._read(wanted, spacing, threads, False, False)
        except (av.FFmpegError, OSError) as error:
            raise self._bad(error.strerror or str(error)) from error

    def _open(self) -> Any:
        return av.open(self.filename if self._data is None else io.BytesIO(self._data))

    def _bad(self, reason: str) -> BadVideoError:
        return BadVideoError(f'video {self.filename} cannot be read: {reason}')

    def _scan(self, container: Any) -> None:
        """Index the video without decoding it."""
        if not container.streams.video:
            raise self._bad('it has no video stream')
        stream = container.streams.video[0]
        self.codec = stream.codec_context.name
        rate: Fraction | None = stream.average_rate
        self.avg_fps = float(rate) if rate else None
        packets, cut = [], False
        for packet in container.demux(stream):
            if packet.size and not packet.is_discard:
                packets.append((packet.pts, packet.is_keyframe))
                cut = packet.is_corrupt
        # a transport stream may begin and end anywhere
        if cut and container.format.name != 'mpegts':
            raise self._bad(f'the file ends in the middle of frame {len(packets)}'
                            + (f' of {stream.frames}' if stream.frames else ''))
        times = sorted({pts for pts, _ in packets if pts is not None})
        self.total_frames = len(packets)
        numbers, keys = None, []
        if len(times) == len(packets):
            numbers = {pts: number for number, pts in enumerate(times)}
            keys = sorted((numbers[pts], pts) for pts, is_key in packets if is_key)
        self._index = VideoIndex(len(packets), numbers, keys)

    def _read(self, wanted: np.ndarray, spacing: float | None, threads: int, seek: bool,
              by_time: bool) -> Decoded:
        """One pass; frames are numbered by their time stamps, or by counting them."""
        numbers = self._index.numbers if by_time else None
        total = self._index.total if by_time else self._count_frames(wanted)
        inds = wanted % total
        task = _Task(inds, spacing, self.codec)
        with self._open() as container:
            stream = container.streams.video[0]
            context = stream.codec_context
            context.thread_type, context.thread_count = 'SLICE', threads
            if spacing is not None:
                context.options = {'flags2': '+export_mvs'}
            sought = seek and numbers is not None and self._seek(container, stream,
                                                                 task.first)
            headers = None
            if spacing is not None and numbers and self.codec == 'h264':
                headers = HeaderReader(context.extradata)
            for number, frame, link in _frames(container, stream, numbers, headers):
                if task.take(number, frame, link):
                    break
                if sought and task.came_first > task.first:
                    raise _OutOfStep
        missing = task.missing()
        # streams that were cut begin with frames that cannot be decoded
        if missing and by_time and (numbers is None or missing[-1] < task.came_first):
            raise _OutOfStep
        if missing:
            raise self._bad(f'frame {missing[0]} of {total} cannot be decoded')
        return task.result()

    def _count_frames(self, wanted: np.ndarray) -> int:
        """Frames that decode, where the packets' number is not to be relied on."""
        count, last = 0, int(wanted.max())
        with self._open() as container:
            for _ in container.decode(video=0):
                count += 1
                if count > last:
                    return max(count, self._index.total)
        if not count:
            raise self._bad('it has no frames that can be decoded')
        return count

    def _seek(self, container: Any, stream: Any, first: int) -> bool:
        """Go to the last key frame before the first frame that is needed."""
        at = bisect.bisect_right(self._index.keys, first, key=lambda key: key[0]) - 1
        if at < 0 or self._index.keys[at][0] < _SEEK_FROM:
            return False
        container.seek(self._index.keys[at][1], stream=stream)
        return True


def _frames(container: Any, stream: Any, numbers: dict[int, int] | None,
            headers: HeaderReader | None) -> Iterator[tuple[int, Any, Link | None]]:
    """Decoded frames in display order, with their numbers and references."""
    links: dict[int, Link] = {}
    references: list[int] = []  # in decoding order
    count, last = 0, -1
    for packet in container.demux(stream):
        if headers is not None and packet.size and packet.pts in numbers:
            _note_links(headers, packet, numbers[packet.pts], references, links)
        for frame in packet.decode():
            number = count
            if numbers is not None:
                if frame.pts not in numbers or numbers[frame.pts] <= last:
                    raise _OutOfStep
                number = last = numbers[frame.pts]
            count += 1
            yield number, frame, links.pop(number, None)


def _note_links(headers: HeaderReader, packet: av.Packet, number: int,
                references: list[int], links: dict[int, Link]) -> None:
    """Find a picture's nearest references among those decoded before it."""
    picture = headers.read(memoryview(packet))
    if picture is None:  # unreadable headers: as a codec with one reference
        return
    past = sorted((at for at in references if at < number), reverse=True)
    future = min((at for at in references if at > number), default=None)
    links[number] = Link(tuple(past[:max(1, picture.past)]), future,
                         picture.is_reference, headers.most_past > 1)
    if picture.idr:
        references.clear()
    if picture.is_reference:
        references.append(number)
        del references[:-_DPB_SIZE]


class _Task:
    """The frames and pairs of one pass."""

    def __init__(self, inds: np.ndarray, spacing: float | None, codec: str) -> None:
        self.inds, self.spacing, self.codec = inds, spacing, codec
        self.first, self.last = int(inds.min()), int(inds.max())
        self.came_first: int | float = float('inf')
        self._images: dict[int, np.ndarray] = {}
        self._wanted = set(inds.ravel().tolist())
        self._corrupt = 0
        self._fields: dict[tuple[int, int], np.ndarray] = {}
        self._pairs: list[tuple[int, int]] = []  # later and earlier frame
        self._builder: StepBuilder | None = None
        self._points: np.ndarray | None = None
        self._traced = self.first  # pairs up to this frame are done
        self._in_span = np.zeros(self.last + 1, bool)  # traced through
        self._near = np.zeros(self.last + 1, bool)
        if spacing is not None:
            pairs = {(int(max(pair)), int(min(pair)))
                     for clip in inds for pair in zip(clip[1:], clip[:-1], strict=True)
                     if pair[0] != pair[1]}
            self._pairs = sorted(pairs)
            for late, early in self._pairs:
                self._in_span[early + 1:late + 1] = True
                self._near[max(0, early - _NEAR):late + 1] = True
        self._starts = {late for late, _ in self._pairs}
        self._goals = {early for _, early in self._pairs}

    def take(self, number: int, frame: av.VideoFrame, link: Link | None) -> bool:
        """Take in a frame; whether all is done."""
        self.came_first = min(self.came_first, number)
        if number in self._wanted:
            # one thread: a data loader has a process for each core
            rgb = frame.reformat(format='rgb24', threads=1)
            self._images[number] = rgb.to_ndarray()
            self._corrupt += bool(frame.is_corrupt)
        settled = True
        if self.spacing is not None:
            if self._builder is None:
                self._builder = StepBuilder(self.codec, frame.height, frame.width)
                self._points = grid_points(
                    *grid_size(frame.height, frame.width, self.spacing), frame.height,
                    frame.width)
            inside = number <= self.last
            settled = self._builder.add(
                number, frame, link, inside and bool(self._near[number]),
                inside and bool(self._in_span[number]), number in self._starts,
                number in self._goals)
            if settled and (number >= self.last
                            or number - self._traced >= _TRACED_AT_ONCE):
                self._trace_up_to(number)
                self._traced = number
        return number >= self.last and settled

    def missing(self) -> list[int]:
        """Wanted frames that did not come, in order."""
        return sorted(self._wanted - set(self._images))

    def _trace_up_to(self, number: int) -> None:
        builder = self._builder
        if self._pairs and self._pairs[0][0] <= number:
            builder.paint()
        while self._pairs and self._pairs[0][0] <= number:
            late, early = self._pairs.pop(0)
            field = trace(self._points, late, early, builder.steps, builder.times)
            self._fields[late, early] = field.reshape(
                grid_size(builder.height, builder.width, self.spacing))
        if self._pairs:
            builder.forget(min(early for _, early in self._pairs) - _NEAR)

    def result(self) -> Decoded:
        """All that was asked, in its order."""
        if self._builder is not None and self._pairs:
            self._builder.finish()
            self._trace_up_to(self.last)
        images, seen = [], set()
        for number in self.inds.ravel().tolist():
            image = self._images[number]
            images.append(image.copy() if number in seen else image)
            seen.add(number)
        flags = dict(codec=self.codec, corrupt_frames=self._corrupt)
        if self.spacing is None:
            return Decoded(images, None, flags)
        height, width = images[0].shape[:2]
        fields = np.zeros((len(images), *grid_size(height, width, self.spacing), 2),
                          np.float32)
        turned, length = 0, self.inds.shape[1]
        for at, number in enumerate(self.inds.ravel().tolist()):
            before = int(self.inds.flat[at - 1])
            if at % length == 0 or before == number:
                continue
            field = self._fields[max(number, before), min(number, before)]
            if before > number:  # the video began again
                turned += 1
                field = invert_displacement(field, height, width)
            fields[at] = field.view(np.float32).reshape(*field.shape, 2)
        return Decoded(images, fields, dict(flags, reversed_pairs=turned,
                                            **self._builder.flags()))


def grid_size(height: int, width: int, spacing: float) -> tuple[int, int]:
    """Rows and columns of points that cover an image at a distance of about `spacing`.

    Args:
        height (int): Image height in px.
        width (int): Image width in px.
        spacing (float): Distance of the points in px.
    """
    return max(1, round(height / spacing)), max(1, round(width / spacing))
