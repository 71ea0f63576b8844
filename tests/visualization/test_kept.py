# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Which part of a frame is left after places of it were kept."""
import numpy as np
import pytest

from mmaction_tokenreduce.visualization import KeptRegions
from mmaction_tokenreduce.visualization.kept import take_places, whole_frames


def corners(cells, hw):
    """Top and left of each cell, counted in places of a grid."""
    return (cells[0, ..., :2] * np.array(hw)).reshape(-1, 2).round(6).tolist()


def test_places_of_whole_frames():
    index = np.array([[1, 2, 4, 5], [0, 1, 3, 4]])  # of 2 x 3 places, as 2 x 2
    cells = take_places(whole_frames(2), (2, 3), index, (2, 2))
    assert corners(cells, (2, 3)) == [[0, 1], [0, 2], [1, 1], [1, 2]]
    kept = KeptRegions([0, 2], cells, 4)
    assert kept.are_boxes
    np.testing.assert_allclose(kept.boxes, [[0, 1 / 3, 1, 1], [0, 0, 1, 2 / 3]])
    np.testing.assert_allclose(kept.areas, [2 / 3, 2 / 3])
    assert kept.summary() == '2 of 4 frames, 67% of their area (33% of the clip)'


def test_a_region_of_a_region():
    inner = np.array([[5, 6, 9, 10]])  # the middle of 4 x 4 places
    cells = take_places(whole_frames(1), (4, 4), inner, (2, 2))
    cells = take_places(cells, (2, 2), np.array([[3]]), (1, 1))
    np.testing.assert_allclose(cells, [[[[0.5, 0.5, 0.75, 0.75]]]])


def test_places_after_the_host_pooled_scattered_ones():
    """Of 4 x 4 places the corners of the frame are kept, four each at a time; pooled by
    2 x 2, one place stands for one corner."""
    index = np.array([[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]])
    scattered = take_places(whole_frames(1), (8, 8),
                            (index // 4 * 2) * 8 + index % 4 * 2, (4, 4))
    assert not KeptRegions([0], scattered, 1).are_boxes
    cells = take_places(scattered, (2, 2), np.array([[2]]), (1, 1))
    assert cells.shape == (1, 2, 2, 4)
    assert corners(cells, (8, 8)) == [[4, 0], [4, 2], [6, 0], [6, 2]]
    np.testing.assert_allclose(KeptRegions([0], cells, 1).areas, [4 / 64])


def test_grids_that_do_not_divide_go_by_shares():
    cells = take_places(whole_frames(1), (3, 3), np.arange(9)[None], (3, 3))
    cells = take_places(cells, (2, 2), np.array([[1]]), (1, 1))  # 3 pooled to 2
    kept = KeptRegions([0], cells, 1)
    assert kept.are_boxes and cells.shape == (1, 3, 3, 4)
    assert kept.boxes[0] == pytest.approx((0, 0.5, 0.5, 1))
