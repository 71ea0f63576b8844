# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Boxes of actors and the names of their actions on images."""
import cv2
import numpy as np
import pytest

from mmaction_tokenreduce.visualization import action_captions, draw_detections
from mmaction_tokenreduce.visualization.detection_picture import box_color

LEVEL = 90
POINT = [0.5, 0.5, 0.5, 0.5]  # a box of one pixel


def grey(height=240, width=320):
    return np.full((height, width, 3), LEVEL, np.uint8)


def of_color(image, number):
    """Where an image has exactly the colour of a box."""
    return (image == box_color(number)).all(-1)


def ground(image, number):
    """Top, left, bottom, right around the pixels of a box's colour."""
    rows, columns = np.nonzero(of_color(image, number))
    return rows.min(), columns.min(), rows.max() + 1, columns.max() + 1


def test_boxes_have_their_place_and_their_colours():
    image = grey(100, 200)
    drawn = draw_detections(image, [[0.1, 0.2, 0.5, 0.8], [0.6, 0, 1, 1]], [[], []])
    expected = grey(100, 200)
    for number, (top, left, bottom, right) in enumerate(((20, 20, 79, 99),
                                                         (0, 120, 99, 199))):
        expected[[top, bottom], left:right + 1] = box_color(number)
        expected[top:bottom + 1, [left, right]] = box_color(number)
    np.testing.assert_array_equal(drawn, expected)
    assert (image == LEVEL).all()
    assert len({box_color(number) for number in range(100)}) == 100


@pytest.mark.parametrize('box', [[-0.2, -0.1, 0.2, 0.3], [0.9, 0.9, 1.3, 1.1],
                                 [0.95, 0.4, 1, 0.6], [0, 0, 1, 1]])
def test_captions_stay_whole_inside_the_image(box):
    lines = [['sit 0.87', 'talk to (a person) 0.64']]
    middle = draw_detections(grey(), [POINT], lines)
    top, left, bottom, right = ground(middle, 0)
    text = middle[top:bottom - 1, left:right]  # without the box of one pixel
    drawn = draw_detections(grey(), [box], lines)
    found = cv2.matchTemplate(drawn, text, cv2.TM_SQDIFF)
    assert found.min() < 255**2 / 10  # a tenth of one white pixel that is black


def test_captions_of_neighbours_do_not_hide_each_other():
    """Four actors at one place, on an image with room for their captions."""
    lines = [['stand 0.98', 'carry (an object) 0.87'], ['walk 0.91'], ['sit 0.55'],
             ['watch (a person) 0.90', 'listen to (a person) 0.60', 'sit 0.50']]
    boxes = [[0.4, 0.4, 0.6, 0.6]] * 4
    together = draw_detections(grey(), boxes, lines)
    for number in range(4):
        alone = draw_detections(grey(), boxes, [
            lines[i] if i == number else [] for i in range(4)])
        frame = draw_detections(grey(), boxes, [[]] * 4)
        letters = (of_color(alone, number) & ~of_color(frame, number)).sum()
        seen = (of_color(together, number) & ~of_color(frame, number)).sum()
        assert letters > 300 and seen >= letters


def test_where_no_place_is_free_captions_cover_little():
    lines = ['stand 0.98', 'carry (an object) 0.87', 'sit 0.50', 'walk 0.40']
    image = grey(60, 128)
    alone = draw_detections(image, [POINT] * 2, [lines, []])
    drawn = draw_detections(image, [POINT] * 2, [lines, ['watch (a person) 0.90']])
    rows = ground(alone, 0)[2] - ground(alone, 0)[0]
    second = ground(drawn, 1)
    assert 60 - rows < second[2] - second[0]  # there was no room
    assert of_color(drawn, 0).sum() > 0.9 * of_color(alone, 0).sum()


def test_lines_that_do_not_fit_are_cut_or_left_out():
    long = draw_detections(grey(96, 128), [POINT], [['talk to everybody ' * 5]])
    short = draw_detections(grey(96, 128), [POINT], [['talk']])
    top, left, bottom, right = ground(long, 0)
    assert 110 < right - left <= 128
    assert bottom - top < 1.6 * (ground(short, 0)[2] - ground(short, 0)[0])
    many = draw_detections(grey(96, 128), [POINT], [['sit'] * 100])
    top, _, bottom, _ = ground(many, 0)
    assert 70 < bottom - top <= 96
    tiny = draw_detections(grey(4, 4), [POINT], [['sit']])  # no room for a letter
    assert (tiny == draw_detections(grey(4, 4), [POINT], [[]])).all()


def test_text_and_lines_grow_with_the_image():
    def height(rows):
        drawn = draw_detections(grey(rows, 2 * rows), [POINT], [['sit 0.87']])
        top, _, bottom, _ = ground(drawn, 0)
        return bottom - top
    assert height(1440) > 3 * height(360) > 3 * 10
    box = [[0.25, 0.25, 0.75, 0.75]]
    thin = of_color(draw_detections(grey(90, 90), box, [[]]), 0)[45, :45].sum()
    thick = of_color(draw_detections(grey(900, 900), box, [[]]), 0)[450, :450].sum()
    assert (thin, thick) == (1, 5)


@pytest.mark.parametrize('image, boxes, lines, words', [
    (grey()[..., 0], [POINT], [[]], r'image must be \(H, W, 3\) uint8, got \(240, 320'),
    (grey().astype(float), [POINT], [[]], 'float64'),
    (grey(), POINT, [[]], r'boxes must be \(n, 4\) finite numbers, got shape \(4,\)'),
    (grey(), [[0, 0, 1, np.nan]], [[]], 'finite'),
    (grey(), [POINT], [], '0 captions for 1 boxes'),
])
def test_other_forms_are_refused(image, boxes, lines, words):
    with pytest.raises(ValueError, match=words):
        draw_detections(image, boxes, lines)


def test_nobody_leaves_the_image_as_it_is():
    drawn = draw_detections(grey(), np.zeros((0, 4)), [])
    np.testing.assert_array_equal(drawn, grey())


def test_captions_name_the_best_actions():
    scores = np.array([[0.99, 0.2, 0.875, 0.6, 0.7], [0.99, 0.1, 0.2, 0.3, 0.4]])
    names = {1: 'stand', 2: 'sit', 3: 'walk'}
    assert action_captions(scores, names, score_thr=0.6, top=2) == [
        ['sit 0.88', 'label 4 0.70'], []]
    assert action_captions(scores, names, score_thr=0.6) == [
        ['sit 0.88', 'label 4 0.70', 'walk 0.60'], []]
    assert action_captions(np.zeros((0, 5)), names) == []
