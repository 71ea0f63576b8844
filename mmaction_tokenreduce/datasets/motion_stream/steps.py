# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""From decoded frames to the steps that points are traced by.

Every P-frame has one step, to the frame that it was predicted from. A B-frame has one
where it is the start of a trace or a reference itself: to the past frame by its past
vectors, or to the future frame by its future vectors and from there by that frame's,
or by the mean of both. Where FFmpeg's export of B-frames is not to be relied on
(`B_VECTOR_CODECS`), a B-frame moves at the velocity of the frame ahead. An
I-frame's step has no vectors; `ops.motion_vectors.trace` bridges it.

FFmpeg's export does not say which reference a vector points to. Where a frame has one
(DVT's own setting, and all of MPEG-4), it is the nearest reference frame that was
decoded before. Where it has several, each block's vector is tried on the nearest four,
the one whose pixels predict the block best is taken, and the vector is scaled to the
nearest frame.
"""
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
from av.sidedata.motionvectors import MotionVectors
from av.sidedata.sidedata import SideDataContainer
from av.video.frame import PictureType

from ...ops.motion_vectors import (
    CELL,
    FUTURE,
    PAST,
    Step,
    cell_grid,
    displacements,
    interpolate_step,
    join_directions,
    paint_frames,
    paint_vectors,
)

MAX_CANDIDATES = 4  # references that a vector is tried on
# of MPEG-4's B-frames FFmpeg 8 exports vectors of zero, whatever moves
B_VECTOR_CODECS = ('h264', 'mpeg1video', 'mpeg2video')
_BATCH = 8  # frames that are painted at once, at the most
_PLACED_CELLS = 96  # cells that a B-frame's time is measured on
_FAST = 1.0  # px; shorter steps are too alike to place a B-frame on
_STILL = 0.25  # px; a shorter vector is as good for every reference


class Link(NamedTuple):
    """Which frames a frame may have been predicted from.

    Attributes:
        past (tuple[int, ...]): Earlier frames, nearest first, as many as list 0 has.
        future (int, optional): The next later frame, of a B-frame.
        is_reference (bool): Whether others may have been predicted from it.
        several (bool): Whether the stream has frames with several references.
    """

    past: tuple[int, ...]
    future: int | None
    is_reference: bool
    several: bool = False


@dataclass
class _Waiting:
    """A B-frame whose future reference has not come yet.

    Its vectors are the past ones, which cells have one, and the same of the future
    ones; None where the export is wrong.
    """

    target: int
    ahead: int | None
    vectors: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None


@dataclass
class StepBuilder:
    """Collects the steps of frames as they are decoded, in display order.

    Attributes:
        codec (str): FFmpeg's name of the codec.
        height (int): Of the frames, in px.
        width (int): Of the frames, in px.
        steps (dict[int, Step]): Steps by frame number.
        times (dict[int, float]): When B-frames were taken, in frames, see `_place`.
    """

    codec: str
    height: int
    width: int
    steps: dict[int, Step] = field(default_factory=dict)
    times: dict[int, float] = field(default_factory=dict)
    predicted_frames: int = 0
    intra_frames: int = 0
    b_frames: int = 0
    frames_with_vectors: int = 0
    most_references: int = 0
    interlaced: bool = False
    _cells: int = 0
    _intra_cells: int = 0
    _last_anchor: int | None = None
    _waiting: dict[int, _Waiting] = field(default_factory=dict)
    # P-frames of one reference: number, target, vectors, and whether they count
    _unpainted: list[tuple[int, int, np.ndarray, bool]] = field(default_factory=list)
    _dtype: np.dtype | None = None
    # B-frames since the last anchor that traces start or end at
    _ends: dict[int, np.ndarray] = field(default_factory=dict)
    _lumas: deque = field(default_factory=lambda: deque(maxlen=MAX_CANDIDATES + 1))

    def add(self, number: int, frame: av.VideoFrame, link: Link | None, is_near: bool,
            in_span: bool, is_start: bool, is_goal: bool) -> bool:
        """Take in the next frame.

        Args:
            number (int): Of the frame, in display order.
            frame (av.VideoFrame): It, with its motion vectors.
            link (Link, optional): Its references; unless given, those of a codec with
                one reference in each direction and no B-frame as reference.
            is_near (bool): Whether points are traced through or from this frame or one
                shortly after; only then it gets a step.
            in_span (bool): Whether points are traced through or from it; only then it
                is counted.
            is_start (bool): Whether points are traced from it.
            is_goal (bool): Whether points are traced to it.

        Returns:
            bool: Whether all traces from frames up to this one can be made.
        """
        is_b = frame.pict_type == PictureType.B
        if link is None:
            past = () if self._last_anchor is None else (self._last_anchor,)
            link = Link(past, None, not is_b)
        if is_b and (is_start or is_goal):
            self._ends[number] = luma(frame).copy()
        is_near = is_near or bool(self._waiting or self._ends)
        if is_near and link.past and (not is_b or is_start or link.is_reference):
            self._add_step(number, frame, link, is_b, in_span)
        if link.is_reference and link.several:
            self._lumas.append((number, luma(frame).copy()))
        if not is_b:
            self._last_anchor = number
            if self._ends or self._waiting or len(self._unpainted) >= _BATCH:
                self.paint()
            for end, image in self._ends.items():
                self.times[end] = self._place(end, image, number, frame)
            self._ends.clear()
            self._settle(number)
        return not (self._waiting or self._ends)

    def finish(self) -> None:
        """Settle B-frames whose future frame does not come any more."""
        self.paint()
        self._ends.clear()
        self._settle(None)

    def paint(self) -> None:
        """Make the steps of P-frames that are due: several at once take half the time.
        """
        if not self._unpainted:
            return
        rows, cols = cell_grid(self.height, self.width)
        numbers, targets, vectors, counted = zip(*self._unpainted, strict=True)
        fields, known = paint_frames(np.concatenate(vectors).view(self._dtype),
                                     [len(part) for part in vectors], rows, cols)
        for at, number in enumerate(numbers):
            self.steps[number] = Step(targets[at], fields[at])
            if counted[at]:
                self._count(rows * cols, known[at])
        self._unpainted.clear()

    def forget(self, before: int) -> None:
        """Drop the steps of frames before a number."""
        for kept in (self.steps, self.times):
            for number in [n for n in kept if n < before]:
                del kept[number]

    def flags(self) -> dict[str, Any]:
        """What was met: for ``results['motion_flags']``."""
        frames = self.predicted_frames + self.intra_frames
        return dict(
            no_vectors=frames > 0 and not self.frames_with_vectors,
            intra_frames=self.intra_frames,
            intra_share=self._intra_cells / self._cells if self._cells else 0.0,
            b_frames=self.b_frames, references=self.most_references,
            several_references=self.most_references > 1, interlaced=self.interlaced)

    def _add_step(self, number: int, frame: av.VideoFrame, link: Link,
                  is_b: bool, counted: bool) -> None:
        """Make a frame's step, or note it as waiting for the frame ahead."""
        target = link.past[0]
        if frame.pict_type == PictureType.I:
            self.intra_frames += counted
            self.steps[number] = Step(target, None)
            return
        self.predicted_frames += counted
        self.b_frames += counted and is_b
        self.interlaced |= frame.interlaced_frame
        self.most_references = max(self.most_references, len(link.past))
        rows, cols = cell_grid(self.height, self.width)
        if is_b and self.codec not in B_VECTOR_CODECS:
            self._waiting[number] = _Waiting(target, link.future, None)
            return
        vectors = exported_vectors(frame)
        if not is_b and vectors is not None and len(link.past) == 1:
            self.frames_with_vectors += 1
            # as plain bytes: numpy copies structured arrays field by field
            self._dtype = vectors.dtype
            plain = vectors.view(f'V{vectors.itemsize}').copy()
            self._unpainted.append((number, target, plain, counted))
            return
        if vectors is None:
            past, known = np.zeros((rows, cols), np.complex64), None
        else:
            self.frames_with_vectors += 1
            back = vectors[vectors['source'] == PAST] if is_b else vectors
            values = None
            if len(link.past) > 1:
                values = self._resolve(back, number, frame, link.past)
            past, known = paint_vectors(back, rows, cols, values)
        if is_b and vectors is not None:
            ahead = vectors[vectors['source'] == FUTURE]
            future, known_future = paint_vectors(ahead, rows, cols)
            if known_future.any():
                self._waiting[number] = _Waiting(
                    target, link.future, (past, known, future, known_future))
                known = known | known_future
        if number not in self._waiting:
            self.steps[number] = Step(target, past)
        if counted:
            self._count(rows * cols, known)

    def _count(self, cells: int, known: np.ndarray | None) -> None:
        """Note how much of a predicted frame is intra coded."""
        self._cells += cells
        self._intra_cells += cells - (
            0 if known is None else int(np.count_nonzero(known)))

    def _settle(self, anchor: int | None) -> None:
        """Fill B-frames from the frames ahead of them, latest first: one may wait for
        another."""
        for number in sorted(self._waiting, reverse=True):
            entry = self._waiting.pop(number)
            ahead = anchor if entry.ahead is None else entry.ahead
            step, frames = self.steps.get(ahead), (entry.target, number, ahead)
            if entry.vectors is None:
                self.steps[number] = interpolate_step(
                    *cell_grid(self.height, self.width), step, frames,
                    self.times.get(number, number))
            elif ahead is None:  # the video ends here
                self.steps[number] = Step(entry.target, entry.vectors[0])
            else:
                self.steps[number] = Step(
                    entry.target, join_directions(*entry.vectors, step, frames))

    def _place(self, number: int, there: np.ndarray, ahead: int,
               frame: av.VideoFrame) -> float:
        """When a B-frame was taken, in frames, by the pixels.

        Videos whose frame rate was raised repeat frames, so that a B-frame may lie
        anywhere on the way of the next P-frame's blocks.
        """
        step = self.steps.get(ahead)
        if step is None or step.vectors is None or step.target >= number:
            return number
        row, column = np.nonzero(np.abs(step.vectors) >= _FAST)
        if not len(row):
            return number
        some = slice(None, None, -(-len(row) // _PLACED_CELLS))
        row, column = row[some], column[some]
        vectors, gap = step.vectors[row, column], ahead - step.target
        here = luma(frame)
        evenly = (ahead - number) / gap  # share of the way still to go
        shares = [evenly, *(share for share in (0, 0.25, 0.5, 0.75, 1)
                            if abs(share - evenly) > 0.05)]
        trials = ((there, vectors * np.float32(share)) for share in shares)
        eight = np.full_like(row, CELL)
        errors = block_errors(here, (column * CELL, row * CELL), (eight, eight),
                              trials).mean(axis=1)
        best = int(errors.argmin())
        # interpolation at half a pixel smooths, which looks like an error too
        if errors[best] * 1.2 + 0.3 > errors[0]:
            best = 0
        return ahead - shares[best] * gap

    def _resolve(self, vectors: np.ndarray, number: int, frame: av.VideoFrame,
                 references: tuple[int, ...]) -> np.ndarray:
        """Displacements scaled to the nearest reference, by the pixels (see above)."""
        values, lumas = displacements(vectors), dict(self._lumas)
        candidates = [at for at in references if at in lumas][:MAX_CANDIDATES]
        moving = np.nonzero(np.abs(values) >= _STILL)[0]
        if len(candidates) < 2 or not len(moving):
            return values
        moved, blocks = values[moving], vectors[moving]
        width, height = blocks['w'].astype(np.int32), blocks['h'].astype(np.int32)
        errors = block_errors(
            luma(frame), (blocks['dst_x'] - width // 2, blocks['dst_y'] - height // 2),
            (width, height), ((lumas[at], moved) for at in candidates))
        # a farther reference has to be clearly better: plain ground fits everywhere
        errors[1:] = errors[1:] * np.float32(1.05) + np.float32(0.5)
        distance = np.array([number - at for at in candidates], np.float32)
        scale = (number - references[0]) / distance[errors.argmin(axis=0)]
        values[moving] = moved * scale
        return values


def exported_vectors(frame: av.VideoFrame) -> np.ndarray | None:
    """The motion vectors that FFmpeg exported with a frame.

    ``frame.side_data`` keeps a container that refers back to the frame: frames then
    live until Python looks for cycles, and the decoder takes new memory for each.
    Decoding with vectors ran at 0.80 and 0.90 (two videos) of the rate that it has with
    a container that the frame does not know.

    Args:
        frame (av.VideoFrame): A decoded frame.

    Returns:
        np.ndarray, optional: (n,) structured, a view that must not outlive the frame;
            None where there are none.
    """
    data = SideDataContainer(frame)
    for entry in data:
        if isinstance(entry, MotionVectors):
            return entry.to_ndarray()
    return None


def luma(frame: av.VideoFrame) -> np.ndarray:
    """Brightness of a frame.

    Args:
        frame (av.VideoFrame): Any format.

    Returns:
        np.ndarray: (H, W) uint8; of 8 bit YUV a view of the frame itself.
    """
    if not frame.format.name.startswith(('yuv4', 'yuvj4', 'nv12')) or any(
            part.bits != 8 for part in frame.format.components):
        return frame.to_ndarray(format='gray')
    plane = frame.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    return rows[:frame.height, :frame.width]


def block_errors(here: np.ndarray, corner: tuple[np.ndarray, np.ndarray],
                 size: tuple[np.ndarray, np.ndarray],
                 trials: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """How well blocks are predicted from other frames, on 4x4 of their pixels.

    Args:
        here (np.ndarray): (H, W) uint8, the frame of the blocks.
        corner (tuple[np.ndarray, np.ndarray]): Left and top in px, each (n,) int.
        size (tuple[np.ndarray, np.ndarray]): Width and height in px, each (n,) int.
        trials (Iterable): K pairs of an image (H, W) uint8 and displacements (n,)
            complex64 px.

    Returns:
        np.ndarray: (K, n) float32, mean absolute difference of a block's pixels.
    """
    inner = np.arange(1, 8, 2)[:, None]  # eighths of a block
    # pixels as (16, n): OpenCV takes no image of more than 32767 rows or columns
    x = np.tile(corner[0] + (inner * size[0] >> 3), (4, 1)).clip(0, here.shape[1] - 1)
    y = np.repeat(corner[1] + (inner * size[1] >> 3), 4, 0).clip(0, here.shape[0] - 1)
    pixels = here[y, x]
    x, y = x.astype(np.float32), y.astype(np.float32)
    errors = np.zeros((0, x.shape[1]), np.float32)
    for image, moves in trials:
        parts = []
        for part in range(0, x.shape[1], 32000):
            some = slice(part, part + 32000)
            predicted = cv2.remap(image, x[:, some] + moves.real[some],
                                  y[:, some] + moves.imag[some], cv2.INTER_LINEAR,
                                  borderMode=cv2.BORDER_REPLICATE)
            difference = cv2.absdiff(predicted, pixels[:, some])
            parts.append(cv2.reduce(difference, 0, cv2.REDUCE_AVG, dtype=cv2.CV_32F))
        errors = np.concatenate([errors, np.concatenate(parts, axis=1)])
    return errors
