# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Pictures as a video file that players and browsers take."""
import os
from contextlib import ExitStack
from fractions import Fraction
from math import isfinite
from numbers import Real
from pathlib import Path
from types import TracebackType

import av
import numpy as np

from ..whole_file import whole_file

__all__ = ['VideoFile']

MATRIX = 'smpte170m'  # what swscale turns RGB into unless told otherwise
OPTIONS = {'crf': '18', 'preset': 'fast', 'x264-params': f'colormatrix={MATRIX}'}


class VideoFile:
    """Writes images to an .mp4 of H.264 (yuv420p).

    ::

        with VideoFile('clip.mp4', fps=25, size=(240, 320)) as video:
            for image in images:
                video.write(image)

    The file appears when the block ends, whole; if it raises, nothing is left. H.264
    has even sides: of an odd one the last row or column is written twice.

    Args:
        path: The .mp4 file; folders above it are made, an older file is replaced.
        fps: Frames a second.
        size: Height and width of the images, pixels.

    Raises:
        ValueError: If the path is no .mp4, or fps or size are not allowed.
    """

    def __init__(self, path: str | os.PathLike, fps: Real,
                 size: tuple[int, int]) -> None:
        if Path(path).suffix.lower() != '.mp4':
            raise ValueError(f'{path}: the video is an .mp4')
        if not isfinite(fps) or Fraction(fps).limit_denominator(1001) <= 0:
            raise ValueError(f'{path}: fps={fps}: must be above 0')
        if len(size) != 2 or min(size) < 1:
            raise ValueError(f'{path}: size={tuple(size)}: must be height and width, '
                             'at least 1')
        self.path, self.size = Path(path), tuple(map(int, size))
        self.fps = Fraction(fps).limit_denominator(1001)  # 30000 / 1001 and the like
        self.num_written = 0

    def __enter__(self) -> 'VideoFile':
        with ExitStack() as opened:
            part = opened.enter_context(whole_file(self.path))
            container = opened.enter_context(av.open(
                str(part), 'w', format='mp4', options={'movflags': '+faststart'}))
            self._stream = container.add_stream('libx264', rate=self.fps,
                                                options=OPTIONS)
            self._stream.pix_fmt = 'yuv420p'
            self._stream.height, self._stream.width = (side + side % 2
                                                       for side in self.size)
            self._container, self._opened = container, opened.pop_all()
        return self

    def write(self, image: np.ndarray) -> None:
        """Write one frame.

        Args:
            image: (H, W, 3) uint8 RGB of the file's size.

        Raises:
            ValueError: If it is not of that form.
        """
        if image.shape != (*self.size, 3) or image.dtype != np.uint8:
            raise ValueError(f'{self.path}: frame {self.num_written} must be '
                             f'{(*self.size, 3)} uint8, got {image.shape} '
                             f'{image.dtype}')
        odd = [(0, side % 2) for side in self.size]
        if any(self.size[i] % 2 for i in (0, 1)):
            image = np.pad(image, (*odd, (0, 0)), mode='edge')
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format='rgb24')
        self._container.mux(self._stream.encode(frame))
        self.num_written += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        with self._opened:  # closes, then renames or, after an error, removes
            if error is not None:
                raise error
            if not self.num_written:
                raise ValueError(f'{self.path}: no frame was written')
            self._container.mux(self._stream.encode())
