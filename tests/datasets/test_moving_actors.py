# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""The generated actors: what they show, what their labels mean, what a keyframe tells.
"""
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chi2_contingency, ks_2samp

from mmaction_tokenreduce.datasets.moving_actors import (
    CLASS_NAMES,
    MOTIONS,
    Actor,
    MovingActorsConfig,
    Take,
    boxes,
    draw_video,
    follows,
    labels,
    offsets,
    render_take,
    touches,
)

CONFIG = MovingActorsConfig()
STEP = 0.033 * 96
KEY = 4  # the keyframe's number in a take


@pytest.fixture(scope='module')
def takes():
    """Takes of 200 videos."""
    return [take for index in range(200)
            for take in draw_video(CONFIG, index, 'train').takes]


def actor(x, y, motion='still', size=20.0, entity=0, side=1):
    return Actor(entity, x, y, size, 0.0, motion, side)


# What a video shows


def test_a_video_is_the_same_whenever_it_is_drawn():
    video = draw_video(CONFIG, 5, 'train')
    frames = render_take(CONFIG, video, 1)
    render_take(CONFIG, draw_video(CONFIG, 6, 'train'), 0)
    np.testing.assert_array_equal(
        frames, render_take(CONFIG, draw_video(CONFIG, 5, 'train'), 1))
    assert frames.shape == (8, 96, 128, 3) and frames.dtype == np.uint8
    for other in (draw_video(CONFIG, 5, 'val'), draw_video(CONFIG, 6, 'train'),
                  draw_video(replace(CONFIG, seed=1), 5, 'train')):
        assert not np.array_equal(frames, render_take(CONFIG, other, 1))


@pytest.mark.parametrize('motion, path', [
    ('still', [(0, 0)] * 8),
    ('move left', [(n, 0) for n in (4, 3, 2, 1, 0, 0, -1, -2)]),
    ('move right', [(n, 0) for n in (-4, -3, -2, -1, 0, 0, 1, 2)]),
    ('move up', [(0, n) for n in (4, 3, 2, 1, 0, 0, -1, -2)]),
    ('move down', [(0, n) for n in (-4, -3, -2, -1, 0, 0, 1, 2)]),
])
def test_actors_move_as_they_are_said_to(motion, path):
    one = actor(50, 40, motion)
    np.testing.assert_allclose(offsets(CONFIG, one), np.array(path) * STEP)
    np.testing.assert_allclose(
        boxes(CONFIG, one), np.array([[40, 30, 60, 50]]) + np.tile(path, 2) * STEP)


@pytest.mark.parametrize('side', [1, -1])
def test_shaking_goes_both_ways_and_rests_at_the_keyframe(side):
    path = offsets(CONFIG, actor(50, 40, 'shake', side=side))
    assert not path[:, 1].any() and not path[KEY:KEY + 2].any()
    pairs = np.diff(path[:, 0].reshape(4, 2), axis=1).ravel() / STEP
    np.testing.assert_allclose(pairs, side * np.array([-1.5, 1.5, 0, -1.5]))


def test_every_motion_rests_from_the_keyframe_to_the_next_frame(takes):
    for take in takes[:200]:
        for one in take.actors:
            path = offsets(CONFIG, one)
            assert not path[KEY:KEY + 2].any()
            moves = np.abs(np.diff(path.reshape(4, 2, 2), axis=1)).sum((1, 2))
            assert (moves[[0, 1, 3]] > 0).all() == (one.motion != 'still')


def test_whole_actors_stand_at_the_keyframe_and_keep_apart_or_touch(takes):
    counts = Counter()
    for take in takes:
        counts[len(take.actors)] += 1
        for i, one in enumerate(take.actors):
            box = boxes(CONFIG, one)[KEY]
            assert (box[:2] >= 0).all() and (box[2:] <= (128, 96)).all()
            assert 0.23 * 96 <= one.size <= 0.34 * 96
            for j, other in enumerate(take.actors[:i]):
                free = np.hypot(one.x - other.x, one.y - other.y) - (
                    one.size + other.size) / 2
                assert free >= 0.06 * 96 or (i, j) == (1, 0)
                assert touches(one, other) == touches(other, one) == (free <= 0)
    assert set(counts) == {2, 3, 4} and min(counts.values()) > 150


def warm(frame: np.ndarray) -> np.ndarray:
    """Where actors are: nothing else is as red."""
    return frame[..., 0].astype(int) >= 190


def test_actors_are_drawn_where_their_boxes_are():
    for index in range(8):
        video = draw_video(CONFIG, index, 'val')
        for number, take in enumerate(video.takes):
            frames = render_take(CONFIG, video, number)
            if take.glitch:
                continue
            for time, frame in enumerate(frames):
                outside = warm(frame)
                for one in take.actors:
                    box = boxes(CONFIG, one)[time]
                    left, top, right, bottom = np.rint(box).astype(int).clip(0, None)
                    if box.min() >= 0 and (box[2:] <= (128, 96)).all():
                        assert warm(frame)[top:bottom, left:right].mean() > 0.35
                    outside[max(top - 1, 0):bottom + 1,
                            max(left - 1, 0):right + 1] = False
                assert not outside.any()


def test_the_ground_stands_still_and_says_nothing():
    """Far from actors all frames of a video are the same."""
    video = draw_video(CONFIG, 3, 'train')
    alone = Take([], False)
    ground = render_take(CONFIG, video._replace(takes=[alone]), 0)
    assert (ground == ground[:1]).all()
    for number, take in enumerate(video.takes):
        if take.glitch:
            continue
        frames = render_take(CONFIG, video, number)
        changed = (frames != ground).any(-1)
        for time in range(8):
            for one in take.actors:
                box = boxes(CONFIG, one)[time]
                left, top = np.floor(box[:2] - 2).astype(int).clip(0, None)
                right, bottom = np.ceil(box[2:] + 2).astype(int).clip(0, None)
                changed[time, top:bottom, left:right] = False
        assert not changed.any()


def test_a_glitch_shows_no_actors(takes):
    share = np.mean([take.glitch for take in takes])
    assert 0.015 < share < 0.045
    config = replace(CONFIG, glitches=0.5)
    for index in range(4):
        video = draw_video(config, index, 'train')
        for number, take in enumerate(video.takes):
            frames = render_take(config, video, number)
            assert warm(frames).mean() < 0.001 if take.glitch else warm(frames).any()


# Labels


def test_labels_of_a_worked_example():
    """Two touch and go left one behind the other; a third is far, a fourth in line but
    goes elsewhere."""
    take = Take([actor(40, 50, 'move left'), actor(57, 50, 'move left', entity=1),
                 actor(100, 20, 'shake', entity=2),
                 actor(80, 52, 'move right', entity=3)], False)
    names = [[CLASS_NAMES[label - 1] for label in ids] for ids in labels(CONFIG, take)]
    assert names == [['move left', 'touch another'],
                     ['move left', 'touch another', 'follow another'],
                     ['shake'], ['move right']]


@pytest.mark.parametrize('motion, other, expected', [
    ('move right', (70, 50), True), ('move right', (30, 50), False),
    ('move left', (30, 50), True), ('move up', (50, 25), True),
    ('move up', (50, 75), False), ('move down', (50, 75), True),
    ('move right', (50 + 20 + 19.1, 50), True),  # lane_gap is 19.2 px, lane_width 6.72
    ('move right', (50 + 20 + 19.3, 50), False), ('move right', (80, 56.7), True),
    ('move right', (80, 56.8), False), ('move right', (80, 43.3), True),
    ('still', (70, 50), False), ('shake', (70, 50), False)])
def test_following_is_going_the_same_way_close_behind(motion, other, expected):
    assert follows(CONFIG, actor(50, 50, motion), actor(*other, motion)) == expected


def test_following_needs_the_same_motion():
    assert not follows(CONFIG, actor(50, 50, 'move right'), actor(70, 50, 'still'))


def test_each_actor_has_one_motion_and_all_labels_occur(takes):
    counts, motions = Counter(), Counter()
    for take in takes:
        for one, ids in zip(take.actors, labels(CONFIG, take), strict=True):
            assert [CLASS_NAMES[label - 1] for label in ids if label <= 6] == [
                one.motion]
            counts.update(ids)
            motions[one.motion] += 1
    total = sum(motions.values())
    assert all(0.12 < motions[name] / total < 0.22 for name in MOTIONS)
    assert 0.15 < counts[7] / total < 0.35 and 0.06 < counts[8] / total < 0.15


# What the keyframe alone tells


def test_place_size_and_touching_do_not_tell_the_motion(takes):
    """Only the first two actors' line tells an axis, so they are left out of x and y.
    """
    actors = [(one, take) for take in takes for one in take.actors]
    for motion in MOTIONS:
        mine = [one for one, _ in actors if one.motion == motion]
        rest = [one for one, _ in actors if one.motion != motion]
        assert ks_2samp([one.size for one in mine],
                        [one.size for one in rest]).pvalue > 0.001
        for axis in ('x', 'y'):
            assert ks_2samp(
                [getattr(one, axis) for one in mine if one.entity > 1],
                [getattr(one, axis) for one in rest if one.entity > 1]).pvalue > 0.001
    touching = [take.actors[:2] for take in takes if touches(*take.actors[:2])]
    apart = [take.actors[2:] for take in takes]
    table = [[sum(one.motion == motion for group in groups for one in group)
              for motion in MOTIONS] for groups in (touching, apart)]
    assert chi2_contingency(table).pvalue > 0.001


def test_a_line_of_two_does_not_tell_who_follows_whom(takes):
    """Left and right, up and down are equally likely for the one on the left."""
    sides = Counter()
    for take in takes:
        first, second = sorted(take.actors[:2], key=lambda one: (one.x, one.y))
        if first.motion == second.motion:
            sides[first.motion] += 1
    for one, other in (('move left', 'move right'), ('move up', 'move down')):
        assert 0.4 < sides[one] / (sides[one] + sides[other]) < 0.6


# Settings


@pytest.mark.parametrize('change, message', [
    (dict(num_train=0), 'num_train is 0; allowed is at least 1'),
    (dict(max_size=0.4), 'max_size is 0.4; allowed is 0.05 to 0.36'),
    (dict(min_actors=1), 'min_actors is 1; allowed is at least 2'),
    (dict(clip_len=10), 'clip_len is 10; allowed are multiples of 4'),
    (dict(min_actors=5), 'min_actors is 5, more than max_actors, which is 4'),
    (dict(min_size=0.35), 'min_size is 0.35, more than max_size, which is 0.34'),
    (dict(gap=0.2, lane_gap=0.1), 'gap is 0.2, more than lane_gap, which is 0.1'),
])
def test_settings_that_do_not_fit(change, message):
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **change)


def test_no_video_outside_of_the_splits():
    for arguments in ((0, 'test'), (-1, 'val')):
        with pytest.raises(ValueError, match=r'splits are train, val, videos are'):
            draw_video(CONFIG, *arguments)


def test_a_crowd_that_does_not_fit_is_thinned_out():
    config = replace(CONFIG, min_actors=12, max_actors=12)
    sizes = {len(take.actors) for index in range(5)
             for take in draw_video(config, index, 'val').takes}
    assert min(sizes) >= 2 and max(sizes) < 12
