# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""RandAugment without the operations that move the picture.

RandAugment: Cubuk et al. 2020, arXiv:1909.13719. MViT's recipe (and so DVT's) uses it;
its rotations, shears and shifts would part the frames from their displacement fields.
"""
from collections.abc import Callable

import cv2
import numpy as np
from mmaction.registry import TRANSFORMS
from mmcv.transforms import BaseTransform

_LEVELS = np.arange(256, dtype=np.float32)
_GREY = np.array([0.299, 0.587, 0.114], np.float32)


def _table(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    return cv2.LUT(image, values.round().clip(0, 255).astype(np.uint8))


def _blend(image: np.ndarray, other: np.ndarray, factor: float) -> np.ndarray:
    """`other` at factor 0, the image at 1."""
    mixed = image.astype(np.float32) * factor + other * np.float32(1 - factor)
    return mixed.round().clip(0, 255).astype(np.uint8)


def brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """Scale towards black (0) or away from it."""
    return _table(image, _LEVELS * factor)


def contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """Scale about the mean brightness."""
    mean = round(float(image.reshape(-1, 3).mean(0) @ _GREY))
    return _table(image, mean + (_LEVELS - mean) * factor)


def saturation(image: np.ndarray, factor: float) -> np.ndarray:
    """Scale about each pixel's grey."""
    return _blend(image, (image.astype(np.float32) @ _GREY)[..., None], factor)


def sharpness(image: np.ndarray, factor: float) -> np.ndarray:
    """Scale about the image smoothed by a 3x3 kernel with weight 5 in its middle."""
    kernel = np.ones((3, 3), np.float32)
    kernel[1, 1] = 5
    smooth = cv2.filter2D(image, -1, kernel / kernel.sum())
    return _blend(image, smooth.astype(np.float32), factor)


def posterize(image: np.ndarray, bits: float) -> np.ndarray:
    """Keep the highest bits of each value."""
    mask = 256 - (1 << (8 - int(bits)))
    return image & np.uint8(mask)


def solarize(image: np.ndarray, threshold: float) -> np.ndarray:
    """Invert values at and above a threshold."""
    return _table(image, np.where(threshold <= _LEVELS, 255 - _LEVELS, _LEVELS))


def invert(image: np.ndarray, _: float) -> np.ndarray:
    """Invert all values."""
    return 255 - image


def autocontrast(image: np.ndarray, _: float) -> np.ndarray:
    """Stretch each channel to the full range."""
    low = image.reshape(-1, 3).min(0).astype(np.float32)
    high = image.reshape(-1, 3).max(0).astype(np.float32)
    span = np.where(high > low, high - low, 1)
    tables = (_LEVELS[:, None] - low) * (255 / span)
    return _table(image, np.where(high > low, tables, _LEVELS[:, None])[None])


def equalize(image: np.ndarray, _: float) -> np.ndarray:
    """Level the histogram of each channel."""
    return cv2.merge([cv2.equalizeHist(channel) for channel in cv2.split(image)])


# name: function, its argument at strength 0 and at strength 1, and whether the change
# goes either way at random
OPERATIONS: dict[str, tuple[Callable, float, float, bool]] = {
    'brightness': (brightness, 1, 1.9, True), 'contrast': (contrast, 1, 1.9, True),
    'saturation': (saturation, 1, 1.9, True), 'sharpness': (sharpness, 1, 1.9, True),
    'posterize': (posterize, 8, 4, False), 'solarize': (solarize, 256, 0, False),
    'autocontrast': (autocontrast, 0, 0, False), 'equalize': (equalize, 0, 0, False),
    'invert': (invert, 0, 0, False),
}


@TRANSFORMS.register_module()
class ColorRandAugment(BaseTransform):
    """Random colour operations, the same ones on all frames of a sample.

    `num_layers` times an operation is drawn from `OPERATIONS`, with replacement, and
    done with a probability of `prob`, at a strength of `magnitude` / 10 that varies by
    `magnitude_std` / 10. No operation moves a place.

    Args:
        magnitude (float): Strength, 0 to 10. Defaults to 7 (MViT).
        num_layers (int): How many operations. Defaults to 4 (MViT).
        magnitude_std (float): Standard deviation of the strength. Defaults to 0.5.
        prob (float): Probability of each. Defaults to 0.5.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(self, magnitude: float = 7, num_layers: int = 4,
                 magnitude_std: float = 0.5, prob: float = 0.5) -> None:
        for name, value, low, high in (
                ('magnitude', magnitude, 0, 10), ('prob', prob, 0, 1),
                ('magnitude_std', magnitude_std, 0, 10),
                ('num_layers', num_layers, 1, 100)):
            if not low <= value <= high:
                raise ValueError(f'{name} of ColorRandAugment must be {low} to {high}, '
                                 f'got {value}')
        self.magnitude, self.num_layers = magnitude, num_layers
        self.magnitude_std, self.prob = magnitude_std, prob

    def transform(self, results: dict) -> dict:
        """Change the frames' colours.

        Args:
            results (dict): The sample.

        Returns:
            dict: The sample.
        """
        names = list(OPERATIONS)
        for _ in range(self.num_layers):
            name = names[np.random.randint(len(names))]
            strength = np.random.normal(self.magnitude, self.magnitude_std) / 10
            turned, done = np.random.rand() < 0.5, np.random.rand() < self.prob
            if not done:
                continue
            function, none, full, either = OPERATIONS[name]
            change = (full - none) * min(max(strength, 0.0), 1.0)
            value = none - change if either and turned else none + change
            results['imgs'] = [function(image, value) for image in results['imgs']]
        return results

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(magnitude={self.magnitude}, '
                f'num_layers={self.num_layers}, magnitude_std={self.magnitude_std}, '
                f'prob={self.prob})')
