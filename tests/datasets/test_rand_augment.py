# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""RandAugment: each operation beside PIL's, which the paper's code used."""
import cv2
import numpy as np
import pytest
from mmaction.registry import TRANSFORMS
from PIL import Image, ImageEnhance, ImageOps

from mmaction_tokenreduce.datasets import ColorRandAugment, FollowMotion, RandAugment
from mmaction_tokenreduce.datasets.transforms.rand_augment import COLOURS, PLACES

FILL = 128


@pytest.fixture
def image():
    """Smooth, 40x56, with a black bar as films have it."""
    y, x = np.mgrid[:40, :56].astype(np.float32)
    channels = [np.sin(x / 7 + phase) * np.cos(y / 9) * 90 + 120 + 30 * phase
                for phase in range(3)]
    image = np.stack(channels, -1).clip(0, 255).astype(np.uint8)
    image[:12] = 0
    return image


def colour_of_pil(name, image, value):
    enhancers = {'brightness': ImageEnhance.Brightness,
                 'saturation': ImageEnhance.Color, 'contrast': ImageEnhance.Contrast,
                 'sharpness': ImageEnhance.Sharpness}
    picture = Image.fromarray(image)
    if name in enhancers:
        return enhancers[name](picture).enhance(value)
    return {'posterize': lambda: ImageOps.posterize(picture, int(value)),
            'solarize': lambda: ImageOps.solarize(picture, value),
            'autocontrast': lambda: ImageOps.autocontrast(picture),
            'equalize': lambda: ImageOps.equalize(picture),
            'invert': lambda: ImageOps.invert(picture)}[name]()


def place_of_pil(name, image, value):
    picture, size = Image.fromarray(image), image.shape[1::-1]
    options = dict(resample=Image.Resampling.BILINEAR, fillcolor=(FILL, ) * 3)
    if name == 'rotate':
        return picture.rotate(value, **options)
    matrix = {'shear_x': (1, value, 0, 0, 1, 0), 'shear_y': (1, 0, 0, value, 1, 0),
              'translate_x': (1, 0, value * size[0], 0, 1, 0),
              'translate_y': (1, 0, 0, 0, 1, value * size[1])}[name]
    return picture.transform(size, Image.Transform.AFFINE, matrix, **options)


def test_the_operations_are_the_recipes():
    assert len(RandAugment.operations) == 14
    assert set(ColorRandAugment.operations) == set(RandAugment.operations) - set(PLACES)


@pytest.mark.parametrize('name', COLOURS)
@pytest.mark.parametrize('share', [-0.75, 0.25, 0.75])
def test_colours_are_pils(name, share, image):
    function, least, most, either_way = COLOURS[name]
    value = least + (most - least) * (share if either_way else abs(share))
    expected = np.asarray(colour_of_pil(name, image, value), int)
    found = function(image.copy(), value)
    assert found.dtype == np.uint8 and found.shape == image.shape
    assert np.abs(found - expected).max() <= 2  # PIL cuts, here values are rounded


@pytest.mark.parametrize('name', PLACES)
@pytest.mark.parametrize('share', [-0.7, 0.4, 0.9])
def test_places_are_pils(name, share, image):
    """But for the edge, where PIL does not mix the picture with what is outside."""
    value = PLACES[name].most * share
    expected = np.asarray(place_of_pil(name, image, value), int)
    found = RandAugment(fill=FILL).change(name, value, image.shape[:2])(image)
    assert found.dtype == np.uint8 and found.shape == image.shape
    white = np.full_like(image, 255)
    covered = np.asarray(place_of_pil(name, white, value))[..., 0] == 255
    inside, outside = (
        cv2.erode(part.astype(np.uint8), np.ones((3, 3)), borderValue=0,
                  borderType=cv2.BORDER_CONSTANT) > 0 for part in (covered, ~covered))
    assert inside.mean() > 0.3 and outside.any()
    off = np.abs(found - expected)
    assert off[inside].max() <= 1 < np.abs(image - expected)[inside].mean()
    assert (found[outside] == FILL).all()


@pytest.mark.parametrize('magnitude,bits', [(0, 4), (2, 4), (3, 3), (7, 2), (10, 0)])
def test_posterize_keeps_fewer_bits_the_stronger_it_is(magnitude, bits, image):
    function, least, most, _ = COLOURS['posterize']
    kept = function(image, least + (most - least) * magnitude / 10)
    size = 2 ** (8 - bits)
    np.testing.assert_array_equal(kept, image.astype(int) // size * size)


def test_colours_move_nothing():
    """A lone bright pixel stays the one that differs from its surroundings."""
    image = np.full((24, 24, 3), 60, np.uint8)
    image[7, 15] = (250, 200, 230)
    for name, (function, none, full, _) in COLOURS.items():
        changed = function(image.copy(), none + (full - none) * 0.5).astype(int)
        off = np.abs(changed - changed[0, 0]).sum(-1)
        place = np.unravel_index(off.argmax(), off.shape)
        assert place == (7, 15) or not off.any(), name


@pytest.mark.parametrize('kind', [ColorRandAugment, RandAugment])
def test_all_frames_are_changed_alike(kind, image):
    np.random.seed(1)
    for _ in range(8):
        frames = kind(magnitude=9, prob=1.0)({'imgs': [image.copy()] * 4})['imgs']
        assert all((frame == frames[0]).all() for frame in frames)
        assert (frames[0] != image).any()


def test_magnitude_probability_and_layers(monkeypatch, image):
    """An operation is done with `prob`, at a magnitude around the one asked for."""
    seen = []

    def change(self, name, value, shape):
        seen.append((name, value))
        return lambda frame: frame

    monkeypatch.setattr(RandAugment, 'change', change)
    augment = RandAugment(magnitude=5, num_layers=3, magnitude_std=1.0, prob=0.25)
    np.random.seed(0)
    for _ in range(4000):
        augment({'imgs': [image]})
    assert abs(len(seen) / 12000 - 0.25) < 0.02
    angles = np.array([value for name, value in seen if name == 'rotate']) / 30 * 10
    assert abs(len(angles) / len(seen) - 1 / 14) < 0.02
    assert abs((angles > 0).mean() - 0.5) < 0.1
    assert abs(np.abs(angles).mean() - 5) < 0.2 and abs(np.abs(angles).std() - 1) < 0.15
    augment = RandAugment(magnitude=10, prob=1.0)
    seen.clear()
    for _ in range(200):
        augment({'imgs': [image]})
    assert max(abs(value) for name, value in seen if name == 'rotate') <= 30


@pytest.mark.parametrize('replace', [True, False])
def test_operations_are_drawn_alike_and_again_only_with_replacement(
        replace, monkeypatch, image):
    seen = []
    monkeypatch.setattr(RandAugment, 'change', lambda self, name, value, shape: (
        seen.append(str(name)), lambda frame: frame)[1])
    augment = RandAugment(num_layers=4, prob=1.0, replace=replace)
    np.random.seed(0)
    for _ in range(3000):
        augment({'imgs': [image]})
    draws = [seen[at:at + 4] for at in range(0, len(seen), 4)]
    repeated = sum(len(set(draw)) < 4 for draw in draws) / 3000
    assert abs(repeated - (1 - 14 * 13 * 12 * 11 / 14**4 if replace else 0)) < 0.03
    shares = [seen.count(name) / len(seen) for name in RandAugment.operations]
    assert max(abs(share - 1 / 14) for share in shares) < 0.01


def test_mistakes():
    with pytest.raises(ValueError, match='magnitude of ColorRandAugment must be'):
        ColorRandAugment(magnitude=11)
    with pytest.raises(ValueError, match='num_layers of RandAugment must be 1 to 100'):
        RandAugment(num_layers=0)
    with pytest.raises(ValueError, match='num_layers of RandAugment must be 1 to 14'):
        RandAugment(num_layers=15, replace=False)
    with pytest.raises(ValueError, match='fill of RandAugment must be 0 to 255, got'):
        RandAugment(fill=256)


@pytest.mark.parametrize('key', ['gt_bboxes', 'motion'])
def test_what_belongs_to_places_is_not_left_behind(key, image):
    with pytest.raises(ValueError, match=f'{key} would stay: use ColorRandAugment'):
        RandAugment()({'imgs': [image], key: np.zeros(1)})
    ColorRandAugment()({'imgs': [image], key: np.zeros(1)})
    with pytest.raises(ValueError, match='does not know what RandAugment does'):
        FollowMotion([RandAugment()])


def test_configs_name_them():
    augment = TRANSFORMS.build(dict(type='mmaction.RandAugment', magnitude=3, fill=0))
    assert repr(augment) == ('RandAugment(magnitude=3, num_layers=4, '
                             'magnitude_std=0.5, prob=0.5, replace=True, '
                             'fill=0)')
