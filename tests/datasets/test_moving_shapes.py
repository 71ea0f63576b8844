# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""The generated demo videos: what they show, and what tells the class: the order of
frames."""
from collections import Counter
from dataclasses import replace
from itertools import product

import cv2
import numpy as np
import pytest
from scipy.stats import chi2_contingency, ks_2samp

from mmaction_tokenreduce.datasets.moving_shapes import (
    MovingShapesConfig,
    actor_track,
    clip_info,
    draw_scene,
    label_of,
    render_clip,
)

CONFIG = MovingShapesConfig()
CLIPS = 800
STEADY = replace(CONFIG, shake=0)


# What a clip shows


def test_a_clip_is_the_same_whenever_it_is_drawn():
    first, label, _ = render_clip(CONFIG, 11, 'train')
    render_clip(CONFIG, 12, 'train')
    again, _, _ = render_clip(CONFIG, 11, 'train')
    assert first.shape == (34, 64, 64, 3) and first.dtype == np.uint8
    assert label == 11 % 8
    np.testing.assert_array_equal(first, again)
    for other in (render_clip(CONFIG, 11, 'val'), render_clip(CONFIG, 19, 'train'),
                  render_clip(replace(CONFIG, seed=1), 11, 'train')):
        assert other[1] == label and not np.array_equal(first, other[0])


@pytest.mark.parametrize('label', range(8))
def test_the_boxes_move_as_the_class_says(label):
    axis, sign = [(0, -1), (0, 1), (1, -1), (1, 1)][label] if label < 4 else (None, 0)
    for index in range(30):
        info = clip_info(STEADY, draw_scene(STEADY, index, 'val'), label)
        start, stop = info['action']
        frames = (stop - start) // 2
        assert frames in (6, 7, 8) and start >= 2 and stop <= 32
        assert np.flatnonzero(info['visible']).tolist() == list(range(start, stop))
        assert (np.isnan(info['boxes']).all(1) == ~info['visible']).all()
        boxes = info['boxes'][start:stop]
        assert boxes.min() >= 0 and boxes.max() <= 64
        move = np.diff((boxes[::2, :2] + boxes[::2, 2:]) / 2, axis=0)
        size = (boxes[::2, 2:] - boxes[::2, :2])[:, 0]
        assert np.median(size) == pytest.approx(64 * 0.32, abs=64 * 0.101)
        expected = np.zeros((frames - 1, 2))
        if axis is not None:
            expected[:, axis] = sign * 2.88  # pixels a sampled frame
        np.testing.assert_allclose(move, expected, atol=1e-9)
        growth = CONFIG.growth(frames) ** {6: 1, 7: -1}.get(label, 0)
        np.testing.assert_allclose(size[1:] / size[:-1], growth)
        turn = np.diff(info['track']['angle'][::2])
        np.testing.assert_allclose(turn, {4: 24, 5: -24}.get(label, 0), atol=1e-9)


def moved(image: np.ndarray, box: np.ndarray, label: int, frames: int) -> np.ndarray:
    """An image after one sampled frame of the class's motion about a box's centre."""
    x, y = (box[:2] + box[2:]) / 2 - 0.5  # OpenCV's places are pixel centres
    growth = CONFIG.growth(frames)
    scale = {6: growth, 7: 1 / growth}.get(label, 1)
    # OpenCV's positive angles turn counter-clockwise
    matrix = cv2.getRotationMatrix2D((x, y), {4: -24, 5: 24}.get(label, 0), scale)
    shift = {0: (-2.88, 0), 1: (2.88, 0), 2: (0, -2.88), 3: (0, 2.88)}
    matrix[:, 2] += shift.get(label, (0, 0))
    return cv2.warpAffine(image, matrix, image.shape[1::-1], borderMode=cv2.BORDER_WRAP)


def motion_in_pixels(frames: np.ndarray, info: dict) -> int:
    """The class whose motion explains most steps between sampled frames."""
    start, stop = info['action']
    votes = Counter()
    for number in range(start, stop - 2, 2):
        now, then = frames[number].astype(np.float32), frames[number + 2]
        box = info['boxes'][number]
        left, top = np.maximum(box[:2].astype(int) - 4, 0)
        right, bottom = box[2:].astype(int) + 5
        errors = [np.abs(moved(now, box, label, (stop - start) // 2) - then)
                  [top:bottom, left:right].mean() for label in range(8)]
        votes[int(np.argmin(errors))] += 1
    return votes.most_common(1)[0][0]


def test_the_pixels_move_as_the_class_says():
    found = []
    for index in range(64):
        frames, label, info = render_clip(CONFIG, index, 'train')
        found.append(motion_in_pixels(frames, info) == label)
    assert sum(found) >= 63


def test_only_the_actor_has_colour_and_only_during_the_action():
    for index in range(48):
        frames, _, info = render_clip(CONFIG, index, 'val')
        for number, frame in enumerate(frames):
            red, green, blue = np.moveaxis(frame.astype(int), -1, 0)
            warm = red >= 190
            if not info['visible'][number]:
                assert not warm.any() and np.abs(red - blue).max() < 30
                continue
            assert (red - blue)[warm].min() > 75
            left, top, right, bottom = box = info['boxes'][number]
            places = np.argwhere(warm)[:, ::-1] + 0.5  # x, y
            assert (places >= box[:2] - 1).all() and (places <= box[2:] + 1).all()
            # Red shows all of the outline, green the fields inside of it.
            assert 0.35 < warm.sum() / ((right - left) * (bottom - top)) < 0.85
            inner = (right - left) / 4
            inside = np.hypot(*(places - (box[:2] + box[2:]) / 2).T) < inner
            assert inside.sum() > 0.9 * np.pi * inner**2
            assert (green[warm] >= 170).sum() >= 20 and (green[warm] < 110).sum() >= 20


def test_distractors_are_still_or_flicker_and_never_cover_the_actor():
    seen = Counter()
    for index in range(200):
        info = clip_info(CONFIG, draw_scene(CONFIG, index, 'train'), label_of(index))
        start, stop = info['action']
        boxes = info['boxes'][start:stop]
        for shape in info['distractors']:
            during = shape.visible[start:stop]
            seen['always'] += bool(shape.visible.all())
            seen['flickers'] += bool(during.any() and not during.all())
            seen['only beside the action'] += bool(not during.any())
            radius = shape.size / 2
            apart = np.maximum(boxes[:, :2] - (shape.x + radius, shape.y + radius),
                               (shape.x - radius, shape.y - radius) - boxes[:, 2:])
            assert (apart.max(1)[during] >= 0).all()
    assert min(seen.values()) > 50, seen


@pytest.mark.parametrize('stride, spare', [(1, 0), (2, 2), (3, 4)])
def test_every_clip_that_can_be_sampled_holds_the_whole_action(stride, spare):
    config = replace(CONFIG, stride=stride, spare_frames=spare)
    for index in range(200):
        scene = draw_scene(config, index, 'train')
        steps = len(scene.paths['x'])
        for offset in range(spare + 1):
            sampled = np.arange(offset, offset + 16 * stride, stride)
            inside = (sampled >= scene.start) & (sampled < scene.start + steps)
            assert inside.sum() == steps // stride
        assert sampled[-1] < config.num_frames


# What must not tell the class


def values_by_class(where: str) -> dict[str, list]:
    """Per attribute eight lists of its values in one action frame of CLIPS clips."""
    rng = np.random.default_rng(0)
    values = {name: [[] for _ in range(8)] for name in ('x', 'y', 'size', 'angle')}
    for index in range(CLIPS):
        track = actor_track(CONFIG, draw_scene(CONFIG, index, 'train'),
                            label_of(index))
        number = 0 if where == 'first' else int(rng.integers(len(track['x'])))
        for name, lists in values.items():
            value = track[name][number] % (360 if name == 'angle' else np.inf)
            lists[label_of(index)].append(value)
    return values


def least_p_value(lists: list[list]) -> float:
    """Of the comparisons of each class with all others (Kolmogorov-Smirnov)."""
    return min(ks_2samp(lists[k], sum(lists[:k] + lists[k + 1:], [])).pvalue
               for k in range(8))


def joint_p_value(values: dict[str, list]) -> float:
    """Of equal shares of all classes in the 16 cells between the four medians."""
    table = np.array(list(values.values()))  # attribute, class, clip
    above = table > np.median(table, axis=(1, 2), keepdims=True)
    cells = np.tensordot([1, 2, 4, 8], above, axes=1)
    return chi2_contingency([np.bincount(row, minlength=16) for row in cells]).pvalue


def test_no_frame_drawn_at_random_from_the_action_tells_the_class():
    values = values_by_class('any')
    # 32 comparisons: by chance one falls below 0.001 three times in a hundred
    for name, lists in values.items():
        assert least_p_value(lists) > 1e-3, name
    assert joint_p_value(values) > 1e-3


def test_the_comparisons_find_that_the_first_frame_of_the_action_tells():
    values = values_by_class('first')
    for name in ('x', 'y', 'size'):
        assert least_p_value(values[name]) < 1e-6, name
    assert least_p_value(values['angle']) > 1e-3
    assert joint_p_value(values) < 1e-6


@pytest.mark.parametrize('label', range(8))
def test_moved_and_resting_values_are_those_of_the_path_each_once(label):
    """So place, size and angle are distributed alike in a random frame: exactly."""
    scene = draw_scene(STEADY, 5, 'train')
    steps = len(scene.paths['x'])
    tracks = [actor_track(STEADY, scene._replace(
        phases=dict.fromkeys(scene.paths, phase)), label) for phase in range(steps)]
    for name, path in scene.paths.items():
        shown = np.stack([track[name] for track in tracks])  # phase, frame
        if name != ('x', 'y', 'angle', 'size')[label // 2]:  # rests
            assert not np.ptp(shown, axis=1).any()
            np.testing.assert_allclose(np.sort(shown[:, 0]), path)
            continue
        if name == 'angle':  # turns from its phase on, there and back alike
            way = np.arange(steps) * (-1 if label == 5 else 1)
            np.testing.assert_allclose(shown, path[:, None] + 12 * way)
            shown = shown - shown.min(1, keepdims=True) + path[0]
        np.testing.assert_allclose(np.sort(shown, axis=1),
                                   np.broadcast_to(path, (steps, steps)))


def test_over_all_phases_and_frames_all_classes_show_the_same_actors():
    """Place and size jointly: each combination of values of the paths equally often.

    The angle adds nothing: its start is uniform, whatever the rest.
    """
    config = replace(STEADY, min_action=4, max_action=4, stride=1)
    scene = draw_scene(config, 0, 'train')
    places = product(*(scene.paths[name] for name in ('x', 'y', 'size')))
    expected = Counter({place: 4 for place in places})
    for label in range(8):
        shown = Counter()
        for phases in product(range(4), repeat=3):
            track = actor_track(config, scene._replace(phases=dict(
                zip(('x', 'y', 'size'), phases, strict=True), angle=0)), label)
            shown.update(zip(track['x'], track['y'], track['size'], strict=True))
        assert shown == expected


@pytest.mark.parametrize('label', [0, 2, 4, 6])
def test_the_opposite_class_shows_the_same_frames_in_reverse(label):
    for index in range(8):
        scene = draw_scene(STEADY, index, 'val')
        there = actor_track(STEADY, scene, label)
        back = actor_track(STEADY, scene, label + 1)
        for name, values in there.items():
            reverse = back[name][::-1]
            if name == 'angle':  # up to where it starts, which is random
                values, reverse = values - values[0], reverse - reverse[0]
            np.testing.assert_allclose(values, reverse)


def test_all_but_the_actor_is_drawn_without_the_class():
    for index in (3, 4):
        clips = [render_clip(CONFIG, index, 'val', label) for label in range(8)]
        frames = np.stack([clip[0] for clip in clips])
        start, stop = clips[0][2]['action']
        assert {clip[2]['action'] for clip in clips} == {(start, stop)}
        assert clips[index % 8][1] == label_of(index)
        same = (frames == frames[0]).all(axis=(0, -1))
        assert same[:start].all() and same[stop:].all()
        for number in range(start, stop):
            around = np.ones((64, 64), bool)
            for clip in clips:
                left, top, right, bottom = clip[2]['boxes'][number]
                around[int(top) - 1:int(bottom) + 2, int(left) - 1:int(right) + 2] = 0
            assert same[number][around].all() and not same[number].all()


def test_times_and_distractors_do_not_depend_on_the_class():
    starts, places = [[] for _ in range(8)], [[] for _ in range(8)]
    lengths, counts = np.zeros((8, 3)), np.zeros((8, 7))
    for index in range(CLIPS):
        scene, label = draw_scene(CONFIG, index, 'train'), label_of(index)
        starts[label].append(scene.start)
        lengths[label, len(scene.paths['x']) // 2 - 6] += 1
        counts[label, len(scene.distractors)] += 1
        places[label] += [shape.x for shape in scene.distractors]
    assert least_p_value(starts) > 1e-3 and least_p_value(places) > 1e-3
    assert chi2_contingency(lengths).pvalue > 1e-3
    assert chi2_contingency(counts).pvalue > 1e-3


# Bad input


@pytest.mark.parametrize('changes, message', [
    (dict(num_train=0), 'num_train is 0; allowed is at least 1'),
    (dict(height=16), 'height is 16; allowed is 32 to 1024'),
    (dict(width=65), 'width is 65; yuv420p video needs an even number of pixels'),
    (dict(crf=52), 'crf is 52; allowed is 0 to 51'),
    (dict(turn=float('nan')), 'turn is nan; allowed is 1 to 45'),
    (dict(preset='warp'), "preset is 'warp'; allowed are ultrafast, "),
    (dict(min_action=9), 'min_action is 9, more than max_action, which is 8'),
    (dict(max_action=16), 'max_action is 16, but the clip has room for 15 '
                          r'\(clip_len 16, spare_frames 2, stride 2\)'),
    (dict(max_action=15), 'the longest action needs 69 pixels, but the frame is 64x64; '
                          'lower max_action, step or max_size'),
    (dict(min_size=0.42), 'min_size is 0.42, not less than max_size, which is 0.42'),
])
def test_settings_that_cannot_be_used(changes, message):
    with pytest.raises(ValueError, match=message):
        MovingShapesConfig(**changes)


def test_clips_that_do_not_exist():
    with pytest.raises(ValueError, match="no clip 0 in split 'test': splits are train"):
        render_clip(CONFIG, 0, 'test')
    with pytest.raises(ValueError, match='no clip -1'):
        render_clip(CONFIG, -1, 'val')
    with pytest.raises(ValueError, match='label is 8; allowed is 0 to 7'):
        render_clip(CONFIG, 0, 'val', 8)
