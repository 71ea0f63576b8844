# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Fields follow their frames through mmaction2's transforms."""
import numpy as np
import pytest
from mmaction.registry import TRANSFORMS

from mmaction_tokenreduce.datasets import FollowMotion, FormatMotion


def affine_field(height, width, rows, cols, frames=4):
    """A field that is linear in the place, which interpolation keeps exactly."""
    x, y = np.meshgrid((np.arange(cols) + 0.5) * width / cols,
                       (np.arange(rows) + 0.5) * height / rows)
    one = np.stack([0.1 * x - 0.2 * y + 3, 0.3 * y + 0.05 * x - 1], -1)
    return np.stack([one * (number + 1) for number in range(frames)]).astype(np.float32)


def value_at(x, y, frame):
    return np.stack([0.1 * x - 0.2 * y + 3, 0.3 * y + 0.05 * x - 1], -1) * (frame + 1)


def sample(height=60, width=90, rows=15, cols=23, frames=4):
    rng = np.random.default_rng(0)
    imgs = [rng.integers(0, 255, (height, width, 3), np.uint8) for _ in range(frames)]
    return dict(imgs=imgs, motion=affine_field(height, width, rows, cols, frames),
                img_shape=(height, width), motion_shape=(height, width), modality='RGB',
                clip_len=2, num_clips=2, label=0)


def follow(results, *transforms):
    return FollowMotion(list(transforms))(results)


def centres(field, height, width):
    rows, cols = field.shape[1:3]
    return np.meshgrid((np.arange(cols) + 0.5) * width / cols,
                       (np.arange(rows) + 0.5) * height / rows)


def inner(array):
    """Without the outermost cells, beyond which there is nothing to interpolate."""
    return array[1:-1, 1:-1]


def test_resize_scales_the_vectors():
    before = sample()
    after = follow(sample(), dict(type='Resize', scale=(180, 90), keep_ratio=False))
    assert after['imgs'][0].shape == (90, 180, 3)
    np.testing.assert_allclose(after['motion'], before['motion'] * [2, 1.5], rtol=1e-6)


@pytest.mark.parametrize('transform', [
    dict(type='CenterCrop', crop_size=(41, 33)), dict(type='RandomCrop', size=37),
    dict(type='RandomResizedCrop', area_range=(0.2, 0.6)),
    dict(type='MultiScaleCrop', input_size=50, scales=(1, 0.6), random_crop=True)])
def test_crops_cut_the_same_region(transform):
    np.random.seed(3)
    results = follow(sample(), transform)
    left, top, right, bottom = results['motion_geometry']['crop_bbox']
    height, width = results['img_shape']
    assert (right - left, bottom - top) == (width, height)
    x, y = centres(results['motion'], height, width)
    for frame, field in enumerate(results['motion']):
        expected = value_at(x + left, y + top, frame)
        np.testing.assert_allclose(inner(field), inner(expected), atol=1e-3)


def test_three_crops_stand_one_after_the_other_as_the_frames_do():
    results = follow(sample(), dict(type='ThreeCrop', crop_size=60))
    assert len(results['imgs']) == len(results['motion']) == 12
    x, y = centres(results['motion'], 60, 60)
    for number, left in enumerate((0, 30, 15)):
        for frame in range(4):
            expected = value_at(x + left, y, frame)
            np.testing.assert_allclose(inner(results['motion'][4 * number + frame]),
                                       inner(expected), atol=1e-3)


def test_ten_crops_mirror_every_second_one():
    plain = sample()
    results = follow(sample(), dict(type='TenCrop', crop_size=(50, 40)))
    assert len(results['imgs']) == len(results['motion']) == 40
    x, y = centres(results['motion'], 40, 50)
    corners = [(0, 0), (40, 0), (0, 20), (40, 20), (20, 10)]
    for number, (left, top) in enumerate(corners):
        at = 8 * number
        np.testing.assert_array_equal(
            results['imgs'][at], plain['imgs'][0][top:top + 40, left:left + 50])
        expected = value_at(x + left, y + top, 0)
        np.testing.assert_allclose(inner(results['motion'][at]), inner(expected),
                                   atol=1e-3)
        np.testing.assert_array_equal(results['imgs'][at + 4],
                                      results['imgs'][at][:, ::-1])
        np.testing.assert_allclose(results['motion'][at + 4],
                                   results['motion'][at][:, ::-1] * [-1, 1])


@pytest.mark.parametrize('direction,axis,sign', [('horizontal', 2, [-1, 1]),
                                                 ('vertical', 1, [1, -1])])
def test_flip_mirrors_and_negates(direction, axis, sign):
    before = sample()
    results = follow(sample(), dict(type='Flip', flip_ratio=1, direction=direction))
    expected = np.flip(before['motion'], axis) * sign
    np.testing.assert_allclose(results['motion'], expected)
    untouched = follow(sample(), dict(type='Flip', flip_ratio=0))
    np.testing.assert_array_equal(untouched['motion'], before['motion'])


def test_a_chain_of_transforms():
    np.random.seed(0)
    results = follow(
        sample(), dict(type='Resize', scale=(-1, 80)),
        dict(type='RandomResizedCrop', area_range=(0.4, 0.5)),
        dict(type='Resize', scale=(48, 56), keep_ratio=False),
        dict(type='Flip', flip_ratio=1), dict(type='ColorJitter', hue=0),
        dict(type='RandomErasing', erase_prob=1.0))
    left, top, right, bottom = results['motion_geometry']['crop_bbox']
    x, y = centres(results['motion'], 56, 48)
    scale = np.array([48 / (right - left), 56 / (bottom - top)])
    x, y = (48 - x) / scale[0] + left, y / scale[1] + top  # px of 80 x 120
    expected = value_at(x * 0.75, y * 0.75, 2) / 0.75 * scale * [-1, 1]
    np.testing.assert_allclose(inner(results['motion'][2]), inner(expected), atol=2e-3)


@pytest.mark.parametrize('transform,message', [
    (dict(type='Resize', scale=(4, 4), lazy=True), 'Resize.lazy=True'),
    (dict(type='Fuse'), 'does not know what Fuse does'),
    (dict(type='FormatShape', input_format='NCTHW'), 'does not know what FormatShape'),
])
def test_what_cannot_be_followed_is_refused_when_it_is_built(transform, message):
    with pytest.raises(ValueError, match=message):
        FollowMotion([transform])


def test_a_subclass_of_a_known_transform_is_not_trusted():
    class Turned(type(TRANSFORMS.build(dict(type='CenterCrop', crop_size=4)))):
        pass

    with pytest.raises(ValueError, match='does not know what Turned does'):
        FollowMotion([Turned(4)])


@pytest.mark.parametrize('transform', [
    dict(type='Flip', flip_ratio=1), dict(type='CenterCrop', crop_size=40),
    dict(type='Resize', scale=(40, 40), keep_ratio=False)])
def test_frames_moved_without_their_fields_are_noticed(transform):
    results = follow(sample(), dict(type='Flip', flip_ratio=1),
                     dict(type='CenterCrop', crop_size=50))
    results = TRANSFORMS.build(transform)(results)
    with pytest.raises(ValueError, match='put such transforms into FollowMotion'):
        FormatMotion(grid=(4, 4))(results)
    with pytest.raises(ValueError, match='put such transforms into FollowMotion'):
        FollowMotion([])(results)


def test_formatting_gives_clips_as_frames_have_them():
    results = follow(sample(), dict(type='ThreeCrop', crop_size=60))
    fields = results['motion']
    results = FormatMotion(stride=4)(results)
    assert results['motion'].shape == (6, 2, 2, 15, 15)
    assert results['motion'].dtype == np.float16
    for clip in range(6):
        for frame in range(2):
            np.testing.assert_allclose(
                results['motion'][clip, :, frame],
                fields[2 * clip + frame].transpose(2, 0, 1), atol=0.1)
    # the keys of the last transform are back, for PackActionInputs' meta_keys
    assert results['crop_bbox'].shape == (12, 4) and 'motion_geometry' not in results
    results = TRANSFORMS.build(dict(type='FormatShape', input_format='NCTHW'))(results)
    assert len(results['imgs']) == len(results['motion'])
    packed = TRANSFORMS.build(dict(type='PackActionInputs',
                                   collect_keys=('imgs', 'motion')))(results)
    assert packed['inputs']['motion'].shape == (6, 2, 2, 15, 15)
    assert packed['inputs']['imgs'].shape == (6, 3, 2, 60, 60)


@pytest.mark.parametrize('grid', [(5, 6), (30, 40)])
def test_other_grids_keep_a_linear_field(grid):
    results = FormatMotion(grid=grid)(dict(sample(rows=15, cols=18)))
    x, y = np.meshgrid((np.arange(grid[1]) + 0.5) * 90 / grid[1],
                       (np.arange(grid[0]) + 0.5) * 60 / grid[0])
    expected = value_at(x, y, 1)
    found = results['motion'][0, :, 1].astype(np.float32).transpose(1, 2, 0)
    margin = 1 if grid == (5, 6) else 2
    cut = slice(margin, -margin)
    np.testing.assert_allclose(found[cut, cut], expected[cut, cut], atol=0.03)


@pytest.mark.parametrize('options,message', [
    ({}, 'grid or stride'), (dict(grid=(4, 4), stride=4), 'grid or stride'),
    (dict(grid=(0, 4)), 'grid of FormatMotion'), (dict(stride=0), 'stride of Format')])
def test_mistakes_in_the_format(options, message):
    with pytest.raises(ValueError, match=message):
        FormatMotion(**options)


def test_stride_must_divide_the_image():
    with pytest.raises(ValueError, match='60x90 px is no multiple of stride=4'):
        FormatMotion(stride=4)(sample())
