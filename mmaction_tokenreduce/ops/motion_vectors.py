# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Displacement fields from the motion vectors of a compressed video.

DVT (seed 004), section 3.2: the displacements between adjacent frames are accumulated
between the two sampled frames. Here each place of the later frame is traced back
through every decoded frame between them.

A codec's vector says where the content of a block of this frame stood in a reference
frame. FFmpeg exports a list of them, one a block of 8 or 16 px; `paint_vectors` puts
them on a grid of 8 px cells, and `trace` follows points from cell to cell.

Places and displacements are complex numbers here, right + i * down in px: one item to
look up and one to add. The first pixel's centre is 0.5 + 0.5i. The code is numpy, since
arrays are small and calls many; on one CPU thread painting the 544
vectors of a 340x256 frame took 60 us, and looking up 5440 points 50 us, where the same
with torch took 105 and 97 us.

Shape legend: H, W image size in pixels; R, C rows and columns of cells; n vectors;
P points.
"""
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

CELL = 8  # px, the finest block that FFmpeg's export tells
BLOCK = 16  # px, images are coded in whole blocks of this size
AGREE = 2.0  # px, see `join_directions`
PAST, FUTURE = -1, 1  # `source` of a vector


class Step(NamedTuple):
    """Where the content of one frame stood in an earlier frame.

    Attributes:
        target (int): Number of the earlier frame.
        vectors (np.ndarray, optional): (R, C) complex64 px, so that a place p of this
            frame stood at ``p + vectors`` in the target. None where the frame tells
            nothing (an I-frame): points keep the velocity that they have there.
    """

    target: int
    vectors: np.ndarray | None


def cell_grid(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of cells of an image, blocks that hang over included.

    Args:
        height (int): Image height in px.
        width (int): Image width in px.

    Returns:
        tuple[int, int]: R, C.
    """
    per_block = BLOCK // CELL
    return -(-height // BLOCK) * per_block, -(-width // BLOCK) * per_block


def displacements(vectors: np.ndarray) -> np.ndarray:
    """Displacements that motion vectors tell.

    Args:
        vectors (np.ndarray): (n,) structured, as for `paint_vectors`.

    Returns:
        np.ndarray: (n,) complex64 px.
    """
    values = np.empty(len(vectors), np.complex64)
    values.real, values.imag = vectors['motion_x'], vectors['motion_y']
    values /= vectors['motion_scale'].astype(np.float32)
    return values


def paint_vectors(vectors: np.ndarray, rows: int, cols: int,
                  values: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Put a frame's motion vectors on the grid of cells.

    Args:
        vectors (np.ndarray): (n,) structured, as FFmpeg exports them: ``w`` and ``h``,
            ``dst_x`` and ``dst_y`` (centre of the block), ``motion_x`` and ``motion_y``
            in 1 / ``motion_scale`` px. Of a frame that has `PAST` and `FUTURE` ones
            (``source``), those of one kind.
        rows (int): R.
        cols (int): C.
        values (np.ndarray, optional): (n,) complex64 px. Defaults to `displacements`.

    Returns:
        tuple[np.ndarray, np.ndarray]: (R, C) complex64 displacement in px, zero where
            there is no vector, and (R, C) bool, where there is one.
    """
    fields, known = paint_frames(vectors, [len(vectors)], rows, cols, values)
    return fields[0], known[0]


def paint_frames(vectors: np.ndarray, counts: Sequence[int], rows: int, cols: int,
                 values: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Put the motion vectors of several frames on grids of cells, at once.

    Args:
        vectors (np.ndarray): (n,) structured, as for `paint_vectors`, frame by frame.
        counts (Sequence[int]): How many each of N frames has.
        rows (int): R.
        cols (int): C.
        values (np.ndarray, optional): (n,) complex64 px. Defaults to `displacements`.

    Returns:
        tuple[np.ndarray, np.ndarray]: (N, R, C) complex64 displacement in px, zero
            where there is no vector, and (N, R, C) bool, where there is one.
    """
    shape = len(counts), rows, cols
    fields, known = np.zeros(shape, np.complex64), np.zeros(shape, bool)
    if len(vectors):
        wide, high = vectors['w'] > CELL, vectors['h'] > CELL
        # blocks lie on the grid of their own size
        column, row = (vectors['dst_x'] >> 3) - wide, (vectors['dst_y'] >> 3) - high
        value = displacements(vectors) if values is None else values
        start = np.repeat(np.arange(len(counts)) * (rows * cols), counts)
        if (column + wide).max() >= cols or (row + high).max() >= rows:
            inside = (column + wide < cols) & (row + high < rows)
            column, row, value = column[inside], row[inside], value[inside]
            wide, high, start = wide[inside], high[inside], start[inside]
        # four cells for every block; of a smaller one some are the same
        cells = np.empty((4, len(value)), np.intp)
        np.multiply(row, cols, out=cells[0], dtype=np.intp)
        cells[0] += column
        cells[0] += start
        np.add(cells[0], wide, out=cells[1])
        np.add(cells[:2], high * cols, out=cells[2:])
        fields.ravel()[cells] = value
        known.ravel()[cells] = True
    return fields, known


def grid_points(rows: int, cols: int, height: int, width: int) -> np.ndarray:
    """Centres of a grid that covers an image evenly.

    Args:
        rows (int): Rows of the grid.
        cols (int): Columns of the grid; neither needs to divide the image.
        height (int): Image height in px.
        width (int): Image width in px.

    Returns:
        np.ndarray: (rows * cols,) complex64 px.
    """
    x = (np.arange(cols) + 0.5) * (width / cols)
    y = (np.arange(rows) + 0.5) * (height / rows)
    return (x + 1j * y[:, None]).astype(np.complex64).ravel()


def look_up(vectors: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The vectors of the cells in which points lie; off the image, of the nearest one.

    Args:
        vectors (np.ndarray): (R, C) complex64.
        points (np.ndarray): (P,) complex64 px.

    Returns:
        np.ndarray: (P,) complex64.
    """
    rows, cols = vectors.shape
    # blocks are uniform, so the nearest cell and no interpolation across their edges
    column = (points.real * np.float32(1 / CELL)).astype(np.intp)
    row = (points.imag * np.float32(1 / CELL)).astype(np.intp)
    for index, count in ((column, cols), (row, rows)):
        np.maximum(index, 0, out=index)
        np.minimum(index, count - 1, out=index)
    row *= cols
    row += column
    return vectors.ravel().take(row)


def join_directions(past: np.ndarray, known: np.ndarray, future: np.ndarray,
                    known_future: np.ndarray, ahead: Step | None,
                    frames: tuple[int, int, int]) -> np.ndarray:
    """Displacements of a B-frame's cells to the frame before, from both directions.

    By its future vector the content of a cell is followed to the frame ahead, and from
    there by that frame's own vectors to the frame before. Where the frame ahead tells
    nothing (an I-frame), the velocity towards it is taken for the time before as well.
    A cell that has both vectors takes the mean of both ways where these are less than
    `AGREE` apart: encoders like to predict a slow move from both sides with vectors of
    zero, and then neither is right alone. Else it takes its past vector.

    Args:
        past (np.ndarray): (R, C) vectors of the cells to the frame before.
        known (np.ndarray): (R, C) bool, which of them are known.
        future (np.ndarray): (R, C) vectors of the cells to the frame ahead.
        known_future (np.ndarray): (R, C) bool, which of them are known.
        ahead (Step, optional): The step of the frame ahead.
        frames (tuple[int, int, int]): Numbers of the frame before, of this frame and of
            the frame ahead.

    Returns:
        np.ndarray: (R, C) complex64.
    """
    before, here, after = frames
    row, column = np.nonzero(known_future)
    move = future[row, column]
    if ahead is None or ahead.vectors is None:
        back = -move * np.float32((here - before) / (after - here))
    else:
        centres = ((column + 0.5) + 1j * (row + 0.5)) * CELL
        # the frame ahead may have been predicted from another frame than `before`
        share = np.float32((after - before) / (after - ahead.target))
        back = move + share * look_up(ahead.vectors,
                                      (centres + move).astype(np.complex64))
    joined = past.copy()
    direct = past[row, column]
    mean = np.where(np.abs(direct - back) < AGREE, (direct + back) / 2, direct)
    joined[row, column] = np.where(known[row, column], mean, back)
    return joined


def trace(points: np.ndarray, frame: int, goal: int, steps: Mapping[int, Step],
          times: Mapping[int, float] | None = None) -> np.ndarray:
    """Follow points of a frame back to an earlier one.

    A point goes from frame to frame by the vector of the cell that it lies in. Where a
    step leads past the goal, the point has gone the share of it that lies after the
    goal (constant velocity). Where a frame tells nothing (an I-frame), the point keeps
    its velocity; where it has none yet, it takes that of the frame before, of the
    content that arrives at its place by it.

    Args:
        points (np.ndarray): (P,) complex64 px in `frame`.
        frame (int): Number of the frame of the points.
        goal (int): Number of an earlier frame.
        steps (Mapping[int, Step]): Steps by frame number. A frame without one ends the
            trace: its points have stood still before it.
        times (Mapping[int, float], optional): When frames were taken, in frames, of
            those of which that is not their number: a frame that repeats the one before
            has the time of that one.

    Returns:
        np.ndarray: (P,) complex64, the displacement: a point stood at p + d in `goal`.
    """
    at = points.copy()
    last = None  # a move and the frames that it took
    times = times or {}
    goal_time = times.get(goal, goal)
    while frame > goal and frame in steps:
        step, time = steps[frame], times.get(frame, frame)
        gap = time - times.get(step.target, step.target)
        if step.vectors is not None:
            move = look_up(step.vectors, at)
        else:
            if last is None:
                before = steps.get(step.target)
                last = velocity_near(at, step.target, before, gap), 1
            move = last[0] * np.float32(gap / last[1])
        if gap > 0:
            last = move, gap
        if step.target < goal:
            move = move * np.float32((time - goal_time) / gap if gap > 0 else 0)
        at += move
        frame = step.target
    return at - points


def velocity_near(points: np.ndarray, frame: int, step: Step | None,
                  gap: float) -> np.ndarray:
    """Velocity of what is at points some frames after (or before) a frame.

    Content at q of the frame moves at the velocity v(q) of its step, so that it is at
    ``q - gap * v(q)`` then; q is found by iteration.

    Args:
        points (np.ndarray): (P,) complex64 px.
        frame (int): Number of the frame.
        step (Step, optional): Its step. Without vectors the velocity is zero.
        gap (float): Frames from `frame` to that of the points; negative for before.

    Returns:
        np.ndarray: (P,) complex64 px a frame, back in time.
    """
    velocity = np.zeros_like(points)
    if step is None or step.vectors is None:
        return velocity
    rate = np.float32(1 / (frame - step.target))
    for _ in range(3):
        velocity = look_up(step.vectors, points + velocity * np.float32(gap)) * rate
    return velocity


def interpolate_step(rows: int, cols: int, ahead: Step | None,
                     frames: tuple[int, int, int], time: float) -> Step:
    """The step of a B-frame that has no vectors of its own, from the frame ahead.

    Args:
        rows (int): R.
        cols (int): C.
        ahead (Step, optional): The step of the frame ahead.
        frames (tuple[int, int, int]): Numbers of the frame before, of this frame and of
            the frame ahead.
        time (float): When this frame was taken, in frames; its number unless it repeats
            a neighbour.

    Returns:
        Step: To the frame before, at constant velocity; without vectors where the frame
            ahead has none.
    """
    before, _, after = frames
    if ahead is None or ahead.vectors is None:
        return Step(before, None)
    centres = grid_points(rows, cols, rows * CELL, cols * CELL)
    velocity = velocity_near(centres, after, ahead, time - after)
    return Step(before, (velocity * np.float32(time - before)).reshape(rows, cols))


def invert_displacement(field: np.ndarray, height: int, width: int,
                        rounds: int = 5) -> np.ndarray:
    """Turn a field from a later frame to an earlier one about.

    Solves ``q = p - field(q)`` by iteration, where p is a place of the earlier frame
    and q its place in the later one, from the guess ``q = p - field(p)``. Where content
    has been covered there is no such q; the last guess serves.

    Args:
        field (np.ndarray): (h, w) complex64 px, on a grid that covers the image evenly.
        height (int): Image height in px.
        width (int): Image width in px.
        rounds (int): Iterations. Defaults to 5.

    Returns:
        np.ndarray: (h, w) complex64: a place p of the earlier frame is at
            ``p + result`` in the later one.
    """
    rows, cols = field.shape
    points = grid_points(rows, cols, height, width)
    flat = field.ravel()
    result = -flat
    for _ in range(rounds):
        place = points + result
        column = (place.real * (cols / width)).astype(np.intp).clip(0, cols - 1)
        row = (place.imag * (rows / height)).astype(np.intp).clip(0, rows - 1)
        result = -flat[row * cols + column]
    return result.reshape(rows, cols)
