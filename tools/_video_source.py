# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Frames of a video file or a camera, one after the other, for tools/demo.py.

A frame is kept as it was decoded (half the bytes of RGB for most files) and turned into
RGB where it is looked at.
"""
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import av
import cv2
import numpy as np

from mmaction_tokenreduce.datasets import BadVideoError
from mmaction_tokenreduce.datasets.video_dataset import missing_or_empty

USUAL_RATE = 25.  # frames a second where a file or a camera does not say
FASTEST_CAMERA = 240.  # some drivers report nonsense
STOPPED_BY = signal.SIGINT, signal.SIGTERM


class Frame(NamedTuple):
    """One frame of a video.

    Attributes:
        number: From 0.
        seconds: Since the first one.
        picture: As decoded.
        size: Height and width in px that it is shown at, upright.
        turns: Quarter turns counterclockwise that make it upright.
    """
    number: int
    seconds: float
    picture: av.VideoFrame
    size: tuple[int, int]
    turns: int = 0

    def rgb(self) -> np.ndarray:
        """(H, W, 3) uint8, an array of its own."""
        height, width = self.size if self.turns % 2 == 0 else self.size[::-1]
        image = self.picture.reformat(width, height, 'rgb24', threads=1).to_ndarray()
        return np.ascontiguousarray(np.rot90(image, self.turns))


class Source(AbstractContextManager):
    """Base of what frames come from; iterated once, within its context.

    Attributes:
        name: For titles and messages.
        fps: Frames a second.
        total: How many frames there will be, about; None where that is not known.
        live: Whether frames come as time passes, rather than as fast as they are taken.
        notes: What was wrong with the frames so far, in words.
    """
    name: str
    fps: float
    total: int | None
    live: bool

    def __init__(self) -> None:
        self.notes: list[str] = []

    def __iter__(self) -> Iterator[Frame]:
        raise NotImplementedError  # abstract

    def __exit__(self, *error: Any) -> None:
        raise NotImplementedError  # abstract


class FileSource(Source):
    """A video file; of one that is damaged, the frames that can be decoded.

    Frames of another size than the first are scaled to it, and turned ones set upright.

    Args:
        path: The file.

    Raises:
        BadVideoError: If it is missing, empty, or no video; when iterated, if not one
            frame can be decoded.
    """
    live = False

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path, self.name = path, Path(path).name
        reason = missing_or_empty(path)
        if reason is not None:
            raise self._bad(reason)
        try:
            self._container = av.open(path)
        except (av.FFmpegError, OSError) as error:
            raise self._bad(error.strerror or str(error)) from error
        if not self._container.streams.video:
            self._container.close()
            raise self._bad('it has no video stream')
        self._stream = self._container.streams.video[0]
        self.fps = float(self._stream.average_rate or self._stream.guessed_rate
                         or USUAL_RATE)
        self.total = self._stream.frames or self._guess_total()

    def _guess_total(self) -> int | None:
        length = self._container.duration  # in units of 1 / av.time_base seconds
        return round(length / av.time_base * self.fps) if length else None

    def _bad(self, reason: str) -> BadVideoError:
        return BadVideoError(f'video {self.path} cannot be read: {reason}')

    def __exit__(self, *error: Any) -> None:
        self._container.close()

    def __iter__(self) -> Iterator[Frame]:
        count, first, size = 0, None, None
        other_sizes = False
        for picture in self._pictures():
            turns = round(picture.rotation / 90) % 4
            upright = (picture.height, picture.width)[::-1 if turns % 2 else 1]
            size = size or upright
            other_sizes |= upright != size
            seconds = count / self.fps if picture.time is None else picture.time
            first = seconds if first is None else first
            yield Frame(count, seconds - first, picture, size, turns)
            count += 1
        if not count:
            raise self._bad('no frame of it can be decoded'
                            + ''.join(f'; {note}' for note in self.notes))
        if other_sizes:
            self.notes.append(f'frames of another size than the first were scaled to '
                              f'{size[1]}x{size[0]}')

    def _pictures(self) -> Iterator[av.VideoFrame]:
        """All pictures that can be decoded; notes the faults once they have come."""
        packets = damaged = 0
        cut = None
        try:
            for packet in self._container.demux(self._stream):
                packets += packet.size > 0
                damaged += packet.is_corrupt
                try:
                    yield from packet.decode()
                except av.FFmpegError:
                    damaged += not packet.is_corrupt
        except (av.FFmpegError, OSError) as error:  # of the container itself
            cut = error.strerror or str(error)
        if cut or packets < self._stream.frames:
            of = f' of {self._stream.frames}' if self._stream.frames else ''
            self.notes.append(f'the file ends early, after {packets}{of} frames'
                              + (f' ({cut})' if cut else ''))
        if damaged:
            self.notes.append(f'{damaged} of its {packets} packets are damaged')


class CameraSource(Source):
    """A camera.

    Args:
        index: Its number for OpenCV.
        seconds: How long it will be watched; only for ``total``.

    Raises:
        BadVideoError: If it cannot be opened; when iterated, if it gives no frame.
    """
    live = True

    def __init__(self, index: int, seconds: float | None = None) -> None:
        super().__init__()
        self.name = f'camera {index}'
        self._camera = cv2.VideoCapture(index)
        if not self._camera.isOpened():
            raise BadVideoError(f'{self.name} cannot be opened: no such device, or '
                                'another program uses it')
        rate = self._camera.get(cv2.CAP_PROP_FPS)
        self.fps = rate if 0 < rate <= FASTEST_CAMERA else USUAL_RATE
        self.total = None if seconds is None else round(seconds * self.fps)

    def __exit__(self, *error: Any) -> None:
        self._camera.release()

    def __iter__(self) -> Iterator[Frame]:
        count, begin, size = 0, time.monotonic(), None
        while True:
            there, image = self._camera.read()
            if not there:
                break
            size = size or image.shape[:2]
            yield Frame(count, time.monotonic() - begin,
                        av.VideoFrame.from_ndarray(image, format='bgr24'), size)
            count += 1
        if not count:
            raise BadVideoError(f'{self.name} gives no frames')
        self.notes.append(f'the camera gave no more frames after {count}')


def open_source(video: str, seconds: float | None) -> Source:
    """The camera of that number, or the file of that name.

    Raises:
        BadVideoError: If it cannot be opened.
    """
    if video.isdecimal():
        return CameraSource(int(video), seconds)
    return FileSource(video)


class StopRequest(AbstractContextManager):
    """Whether the user asked for an end, by Ctrl-C or SIGTERM, within the context.

    The first time is noted, so that files can be completed; the second one interrupts
    as ever.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> 'StopRequest':
        for number in STOPPED_BY:
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: Any) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
