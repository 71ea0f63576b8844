# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Painting and tracing motion vectors, against loops over blocks and points."""
import numpy as np
import pytest

from mmaction_tokenreduce.ops.motion_vectors import (
    AGREE,
    FUTURE,
    PAST,
    Step,
    cell_grid,
    displacements,
    grid_points,
    interpolate_step,
    invert_displacement,
    join_directions,
    look_up,
    paint_vectors,
    trace,
)

DTYPE = np.dtype([('source', 'i4'), ('w', 'u1'), ('h', 'u1'), ('src_x', 'i2'),
                  ('src_y', 'i2'), ('dst_x', 'i2'), ('dst_y', 'i2'), ('flags', 'u8'),
                  ('motion_x', 'i4'), ('motion_y', 'i4'), ('motion_scale', 'u2')],
                 align=True)


def blocks(rng, rows, cols):
    """A random split of an image into blocks of 8 and 16 px, some without vectors."""
    entries = []
    for top in range(0, rows * 8, 16):
        for left in range(0, cols * 8, 16):
            width, height = rng.choice([8, 16], 2)
            if rng.random() < 0.2:
                continue
            for y in range(top, top + 16, height):
                for x in range(left, left + 16, width):
                    motion = rng.integers(-40, 41, 2)
                    entries.append((rng.choice([-1, 1]), width, height, 0, 0,
                                    x + width // 2, y + height // 2, 0, *motion,
                                    rng.choice([1, 2, 4])))
    return np.array(entries, DTYPE)


@pytest.mark.parametrize('source', [None, PAST, FUTURE])
def test_painting_equals_a_loop_over_blocks(source):
    rows, cols = 6, 10
    vectors = blocks(np.random.default_rng(2), rows, cols)
    chosen = vectors if source is None else vectors[vectors['source'] == source]
    field, known = paint_vectors(chosen, rows, cols)
    expected, covered = np.zeros((rows * 8, cols * 8), complex), np.zeros(
        (rows * 8, cols * 8), bool)
    for one in vectors:
        if source is not None and one['source'] != source:
            continue
        left, top = one['dst_x'] - one['w'] // 2, one['dst_y'] - one['h'] // 2
        place = slice(top, top + one['h']), slice(left, left + one['w'])
        expected[place] = (one['motion_x'] + 1j * one['motion_y']) / one['motion_scale']
        covered[place] = True
    for part in range(8):  # every pixel of a cell is alike
        np.testing.assert_allclose(field, expected[part::8, part::8])
        np.testing.assert_array_equal(known, covered[part::8, part::8])
    assert 0 < known.sum() < known.size
    other, _ = paint_vectors(chosen, rows, cols, 2 * displacements(chosen))
    np.testing.assert_allclose(other, 2 * field)


def test_no_vectors_and_blocks_off_the_grid():
    field, known = paint_vectors(np.zeros(0, DTYPE), 4, 4)
    assert not field.any() and not known.any()
    vectors = np.array([(-1, 16, 16, 0, 0, 40, 8, 0, 4, 0, 1),
                        (-1, 16, 16, 0, 0, 24, 24, 0, 8, 4, 2)], DTYPE)
    field, known = paint_vectors(vectors, 4, 4)  # the first lies right of 32 px
    assert known.sum() == 4
    np.testing.assert_array_equal(field[2:, 2:], np.full((2, 2), 4 + 2j))


def test_cells_cover_blocks_that_hang_over():
    assert cell_grid(150, 250) == (20, 32)
    assert cell_grid(16, 32) == (2, 4)


def test_grid_of_points_covers_the_image_evenly():
    points = grid_points(3, 5, 30, 42).reshape(3, 5)
    np.testing.assert_allclose(points.real[0], [4.2, 12.6, 21.0, 29.4, 37.8], rtol=1e-6)
    np.testing.assert_allclose(points.imag[:, 2], [5, 15, 25])


def test_tracing_equals_a_loop_over_points():
    rng = np.random.default_rng(0)
    rows, cols = 8, 10
    fields = {number: (rng.uniform(-9, 9, (rows, cols))
                       + 1j * rng.uniform(-9, 9, (rows, cols))).astype(np.complex64)
              for number in (3, 5, 6, 9)}
    targets = {9: 6, 6: 5, 5: 3, 3: 0}  # the last leads past the goal
    steps = {number: Step(targets[number], fields[number]) for number in targets}
    points = grid_points(16, 20, 64, 80)
    result = trace(points, 9, 1, steps)
    for point, found in zip(points, result, strict=True):
        at, frame = complex(point), 9
        while frame > 1:
            row = min(max(int(np.floor(at.imag / 8)), 0), rows - 1)
            column = min(max(int(np.floor(at.real / 8)), 0), cols - 1)
            share = 1 if targets[frame] >= 1 else (frame - 1) / (frame - targets[frame])
            at += complex(fields[frame][row, column]) * share
            frame = targets[frame]
        assert found == pytest.approx(at - complex(point), abs=1e-3)


def test_off_the_image_the_nearest_cell_counts():
    vectors = np.arange(6, dtype=np.complex64).reshape(2, 3)
    points = np.array([-5 - 3j, 3 + 99j, 99 + 1j, 99 + 99j], np.complex64)
    np.testing.assert_array_equal(look_up(vectors, points), [0, 3, 2, 5])


def uniform(value):
    return np.full((6, 8), value, np.complex64)


def test_an_i_frame_is_bridged_by_the_velocity_of_the_point():
    points = grid_points(6, 8, 48, 64)
    steps = {4: Step(2, uniform(-6 + 2j)), 2: Step(1, None), 1: Step(0, uniform(9))}
    np.testing.assert_allclose(trace(points, 4, 1, steps), -9 + 3j)
    # at the start: the velocity of what arrives there
    steps = {3: Step(2, None), 2: Step(0, uniform(-2))}
    np.testing.assert_allclose(trace(points, 3, 0, steps), -3)
    assert not trace(points, 3, 2, {3: Step(2, None)}).any()


def test_a_repeated_frame_takes_no_time():
    points = grid_points(6, 8, 48, 64)
    steps = {3: Step(0, uniform(-9))}
    np.testing.assert_allclose(trace(points, 3, 1, steps), -6)
    np.testing.assert_allclose(trace(points, 3, 1, steps, {1: 0.0}), -9)
    np.testing.assert_allclose(trace(points, 3, 1, steps, {1: 3.0}), 0)


def test_a_future_vector_goes_on_by_the_frame_ahead():
    past, future = uniform(-1), uniform(8)
    known, known_future = np.ones((6, 8), bool), np.ones((6, 8), bool)
    known[:4] = known_future[0] = False
    past[~known] = 0
    vectors = np.tile(-np.arange(8, dtype=np.complex64) * 4, (6, 1))
    joined = join_directions(past, known, future, known_future, Step(0, vectors),
                             (0, 1, 3))
    assert not joined[0].any()  # intra
    # one cell on, and back by that cell's vector; the last column stays in the last
    way = 8 - np.array([1, 2, 3, 4, 5, 6, 7, 7]) * 4.0
    np.testing.assert_allclose(joined[1:4], np.tile(way, (3, 1)))
    both = np.where(abs(way + 1) < AGREE, (way - 1) / 2, -1)
    assert (both != -1).any()
    np.testing.assert_allclose(joined[4:], np.tile(both, (2, 1)))
    # the frame ahead goes back two frames before the goal: two thirds of its way
    longer = join_directions(past, known, future, known_future, Step(-3, vectors),
                             (0, 1, 3))
    np.testing.assert_allclose(longer[1], 8 + (way - 8) / 2)
    still = join_directions(past, known, future, known_future, Step(0, None), (0, 1, 3))
    np.testing.assert_allclose(still[1:4], -4)  # 8 px in two frames, one frame back


def test_a_frame_without_vectors_moves_with_the_frame_ahead():
    step = interpolate_step(6, 8, Step(0, uniform(-9 + 3j)), (0, 1, 3), 1)
    assert step.target == 0
    np.testing.assert_allclose(step.vectors, -3 + 1j)
    np.testing.assert_allclose(
        interpolate_step(6, 8, Step(0, uniform(-9)), (0, 1, 3), 3.0).vectors, -9)
    assert interpolate_step(6, 8, None, (0, 1, 3), 1).vectors is None


def test_turning_a_field_about():
    # an enlargement about the centre: content at p was at 0.9 p + 0.1 c
    points = grid_points(40, 60, 160, 240).reshape(40, 60)
    field = ((120 + 80j) - points) * np.float32(0.1)
    turned = invert_displacement(field.astype(np.complex64), 160, 240)
    inner = (slice(8, -8), slice(8, -8))
    truth = (points - (120 + 80j)) / np.float32(9)
    assert np.abs(turned - truth)[inner].max() < 0.5
