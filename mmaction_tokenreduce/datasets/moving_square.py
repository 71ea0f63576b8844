# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Videos of a textured square that moves, whose displacement is known.

They measure how exact the fields are that `MotionReader` takes from a compressed
stream. Legend: T frames, H x W pixels, h x w cells of a field.
"""
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import av
import cv2
import numpy as np

from .motion_stream import MotionReader

WHOLE_VELOCITIES = ((2, 0), (4, 0), (-3, 1))  # px a frame, to the right and down
FRACTION_VELOCITIES = ((1.5, -0.75), (0.5, 0.25), (0.6, 0.3))
SPANS = (1, 2, 4, 7, 12)  # frames


class Encoding(NamedTuple):
    """How a video is encoded.

    Attributes:
        title (str): For people.
        codec (str): FFmpeg's encoder.
        options (dict[str, Any]): The encoder's.
    """

    title: str
    codec: str
    options: dict[str, Any]


_MPEG4 = dict(qmin=1, qmax=2)
ENCODINGS: dict[str, Encoding] = dict(
    h264=Encoding('H.264 `refs=1`, no B-frames', 'libx264', dict(refs=1, bf=0, g=250)),
    h264_b=Encoding('H.264 `refs=1`, 3 B-frames', 'libx264', dict(refs=1, bf=3, g=250)),
    mpeg4=Encoding('MPEG-4, no B-frames', 'mpeg4', dict(bf=0, g=250, **_MPEG4)),
    h264_default=Encoding('H.264 default (3 references, B)', 'libx264', dict(g=250)),
    h264_refs=Encoding('H.264 `refs=5`, no B-frames', 'libx264',
                       dict(g=250, refs=5, bf=0)),
    h264_i=Encoding('H.264 `refs=1`, I-frame every 8', 'libx264',
                    dict(refs=1, bf=0, g=8)),
    mpeg4_i=Encoding('MPEG-4, I-frame every 12', 'mpeg4', dict(bf=0, g=12, **_MPEG4)),
    mpeg4_b=Encoding('MPEG-4, 2 B-frames', 'mpeg4', dict(bf=2, g=250, **_MPEG4)))


class MovingSquare:
    """A textured square in front of a still ground.

    Args:
        velocity: Of the square, px a frame to the right and down.
        plain (bool): Whether the ground has one colour, and no texture.
        frames (int): T.
        height (int): H.
        width (int): W.
        size (int): Side of the square in px.
        seed (int): Of the textures.

    Attributes:
        frames (np.ndarray): (T, H, W, 3) uint8 RGB.
        corners (np.ndarray): (T, 2) px, the square's left and top in each frame.
    """

    def __init__(self, velocity: Sequence[float], plain: bool = False, frames: int = 32,
                 height: int = 120, width: int = 200, size: int = 48,
                 seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.velocity, self.size = np.array(velocity, float), size
        # inside at the first frame, heading for the other side
        far = np.array([width, height]) - size - 18
        start = np.where(self.velocity >= 0, 18.0, far)
        self.corners = start + np.arange(frames)[:, None] * self.velocity
        ground = np.full((height, width, 3), 110.0) if plain else _texture(
            rng, height, width, 2)
        square = _texture(rng, size, size, 1.5)
        self.frames = np.stack([
            self._draw(ground, square, corner) for corner in self.corners])

    def _draw(self, ground: np.ndarray, square: np.ndarray,
              corner: np.ndarray) -> np.ndarray:
        height, width = ground.shape[:2]
        move = np.float32([[1, 0, corner[0]], [0, 1, corner[1]]])
        cover = cv2.warpAffine(np.ones(square.shape[:2], np.float32), move,
                               (width, height))[..., None]
        painted = cv2.warpAffine(square.astype(np.float32), move, (width, height))
        return (ground * (1 - cover) + painted * cover).round().clip(0, 255).astype(
            np.uint8)

    def errors(self, field: np.ndarray, frame: int, before: int) -> np.ndarray:
        """Errors of a field at its places inside the square.

        Args:
            field (np.ndarray): (h, w, 2) px, from `frame` to `before`.
            frame (int): The frame of the field's places.
            before (int): The frame that it points to.

        Returns:
            np.ndarray: (n,) px, distance of each displacement from the true one.
        """
        rows, cols = field.shape[:2]
        height, width = self.frames.shape[1:3]
        x = (np.arange(cols) + 0.5) * width / cols
        y = (np.arange(rows) + 0.5) * height / rows
        left, top = self.corners[frame]
        inside = (((y > top + 0.5) & (y < top + self.size - 0.5))[:, None]
                  & (x > left + 0.5) & (x < left + self.size - 0.5))
        truth = self.corners[before] - self.corners[frame]
        return np.linalg.norm(field - truth, axis=-1)[inside]


def _texture(rng: np.random.Generator, height: int, width: int,
             blur: float) -> np.ndarray:
    """Blurred noise (H, W, 3), 0 to 255."""
    noise = cv2.GaussianBlur(
        rng.uniform(0, 255, (height, width, 3)).astype(np.float32), (0, 0), blur)
    return ((noise - noise.mean()) / noise.std() * 50 + 128).clip(0, 255)


def encode(path: str | os.PathLike, frames: np.ndarray, codec: str = 'libx264',
           **options: Any) -> str:
    """Write a video of 25 frames a second.

    Args:
        path: The file; its suffix says which container.
        frames (np.ndarray): (T, H, W, 3) uint8 RGB.
        codec (str): FFmpeg's encoder. ``'mpeg4'`` gets 4 Mbit/s.
        **options: The encoder's.

    Returns:
        str: The path.
    """
    with av.open(str(path), 'w') as container:
        stream = container.add_stream(
            codec, rate=25, options={key: str(value) for key, value in options.items()})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = 'yuv420p'
        if codec == 'mpeg4':
            stream.bit_rate = 4_000_000
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, 'rgb24')))
        container.mux(stream.encode())
    return str(path)


def median_errors(video: MovingSquare, path: str,
                  spacing: float = 4) -> tuple[dict[int, float], dict[str, Any]]:
    """Errors of the fields that are read from an encoded square.

    Args:
        video (MovingSquare): What was encoded.
        path (str): The file.
        spacing (float): Distance of the fields' points in px.

    Returns:
        tuple: Median error in px over the square's places by each of `SPANS`, the
            frames from one end of a field to the other; and the flags of the last pair
            of frames.
    """
    reader, result = MotionReader(path), {}
    for span in SPANS:
        errors = []
        for start in range(2, reader.total_frames - span, 5):
            read = reader.read(np.array([start, start + span]), 2, spacing)
            errors.append(video.errors(read.fields[1], start + span, start))
        result[span] = float(np.median(np.concatenate(errors)))
    return result, read.flags
