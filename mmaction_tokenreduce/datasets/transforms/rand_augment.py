# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""RandAugment on the frames of a sample, with all of its operations or colours alone.

RandAugment: Cubuk et al. 2020, arXiv:1909.13719. The recipes of MViT, and so of STTS
and DVT, use it. mmaction2 takes it from pytorchvideo, whose last release (0.1.5) cannot
be imported beside torchvision 0.17 or later. The operations and their strengths are
pytorchvideo's: a higher magnitude is always further from the picture.
"""
import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

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
    """Scale about the image smoothed by a 3x3 kernel with weight 5 in its middle.

    The outermost pixels stay, as in PIL.
    """
    kernel = np.ones((3, 3), np.float32)
    kernel[1, 1] = 5
    smooth = image.astype(np.float32)
    smooth[1:-1, 1:-1] = cv2.filter2D(image, -1, kernel / kernel.sum())[1:-1, 1:-1]
    return _blend(image, smooth, factor)


def posterize(image: np.ndarray, bits: float) -> np.ndarray:
    """Keep the highest bits of each value; of a fraction of a bit, the whole."""
    mask = 256 - (1 << (8 - math.ceil(bits)))
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
    """Level the histogram of each channel, by PIL's rule.

    OpenCV's own rule differs where many pixels have the lowest value (black bars).
    """
    return cv2.merge([_level(channel) for channel in cv2.split(image)])


def _level(channel: np.ndarray) -> np.ndarray:
    counts = np.bincount(channel.ravel(), minlength=256)
    step = (channel.size - counts[channel.max()]) // 255
    if not step:
        return channel
    return _table(channel, (counts.cumsum() - counts + step // 2) // step)


def rotation(height: int, width: int, degrees: float) -> np.ndarray:
    """About the centre, counter-clockwise."""
    return cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -degrees, 1)


def shear_x(height: int, width: int, factor: float) -> np.ndarray:
    """Rows shifted in proportion to their height; the upper edge stays."""
    return np.array([[1, factor, factor / 2], [0, 1, 0]])


def shear_y(height: int, width: int, factor: float) -> np.ndarray:
    """Columns shifted in proportion to their place; the left edge stays."""
    return np.array([[1, 0, 0], [factor, 1, factor / 2]])


def translation_x(height: int, width: int, share: float) -> np.ndarray:
    """To the left, by a share of the width."""
    return np.array([[1, 0, share * width], [0, 1, 0]])


def translation_y(height: int, width: int, share: float) -> np.ndarray:
    """Upwards, by a share of the height."""
    return np.array([[1, 0, 0], [0, 1, share * height]])


class Operation(NamedTuple):
    """An operation and its argument.

    Attributes:
        function (Callable): Of an image (H, W, 3), uint8, and the argument: the changed
            image. In `PLACES` of height, width and the argument: the 2x3 matrix that
            takes places (x, y) of the result to places of the image.
        least (float): The argument at magnitude 0.
        most (float): At magnitude 10.
        either_way (bool): Whether the change from `least` gets a random sign.
    """
    function: Callable
    least: float
    most: float
    either_way: bool


COLOURS: dict[str, Operation] = {
    'brightness': Operation(brightness, 1, 1.9, True),
    'contrast': Operation(contrast, 1, 1.9, True),
    'saturation': Operation(saturation, 1, 1.9, True),
    'sharpness': Operation(sharpness, 1, 1.9, True),
    'posterize': Operation(posterize, 4, 0, False),
    'solarize': Operation(solarize, 256, 0, False),
    'autocontrast': Operation(autocontrast, 0, 0, False),
    'equalize': Operation(equalize, 0, 0, False),
    'invert': Operation(invert, 0, 0, False),
}
PLACES: dict[str, Operation] = {
    'rotate': Operation(rotation, 0, 30, True),
    'shear_x': Operation(shear_x, 0, 0.3, True),
    'shear_y': Operation(shear_y, 0, 0.3, True),
    'translate_x': Operation(translation_x, 0, 0.45, True),
    'translate_y': Operation(translation_y, 0, 0.45, True),
}


class _RandomOperations(BaseTransform):
    """Draws operations and does them to all frames of a sample alike.

    Attributes:
        operations (tuple[str, ...]): Names of those to draw from.
    """
    operations: tuple[str, ...]

    def __init__(self, magnitude: float = 7, num_layers: int = 4,
                 magnitude_std: float = 0.5, prob: float = 0.5,
                 replace: bool = True) -> None:
        most = 100 if replace else len(self.operations)
        for name, value, low, high in (
                ('magnitude', magnitude, 0, 10), ('prob', prob, 0, 1),
                ('magnitude_std', magnitude_std, 0, 10),
                ('num_layers', num_layers, 1, most)):
            if not low <= value <= high:
                raise ValueError(f'{name} of {type(self).__name__} must be {low} to '
                                 f'{high}, got {value}')
        self.magnitude, self.num_layers = magnitude, num_layers
        self.magnitude_std, self.prob, self.replace = magnitude_std, prob, replace

    def transform(self, results: dict) -> dict:
        """Change the frames.

        Args:
            results (dict): The sample; `imgs` are images (H, W, 3), uint8.

        Returns:
            dict: The sample.
        """
        for name in np.random.choice(self.operations, self.num_layers, self.replace):
            magnitude = np.random.normal(self.magnitude, self.magnitude_std)
            turned, done = np.random.rand() < 0.5, np.random.rand() < self.prob
            if not done:
                continue
            _, least, most, either_way = {**COLOURS, **PLACES}[name]
            step = (most - least) * min(max(magnitude, 0.0), 10.0) / 10
            value = least - step if either_way and turned else least + step
            change = self.change(name, value, results['imgs'][0].shape[:2])
            results['imgs'] = [change(image) for image in results['imgs']]
        return results

    def change(self, name: str, value: float,
               shape: tuple[int, int]) -> Callable[[np.ndarray], np.ndarray]:
        """What an operation does to each frame.

        Args:
            name (str): Of the operation.
            value (float): Its argument.
            shape (tuple[int, int]): Height and width of the frames.

        Returns:
            Callable: Of a frame, the changed frame.
        """
        return lambda image: COLOURS[name].function(image, value)

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(magnitude={self.magnitude}, '
                f'num_layers={self.num_layers}, magnitude_std={self.magnitude_std}, '
                f'prob={self.prob}, replace={self.replace})')


@TRANSFORMS.register_module()
class RandAugment(_RandomOperations):
    """Random operations on colours and places, the same ones on all frames of a sample.

    `num_layers` times one of the 14 is drawn and done with a probability of `prob`, at
    a magnitude that is drawn from a normal distribution and kept within 0 and 10. What
    moves places samples bilinearly; what comes into the picture is grey.

    Args:
        magnitude (float): Mean of the magnitude, 0 to 10. Defaults to 7 (MViT).
        num_layers (int): How many operations. Defaults to 4 (MViT).
        magnitude_std (float): Standard deviation of the magnitude. Defaults to 0.5.
        prob (float): Probability of each. Defaults to 0.5.
        replace (bool): Whether one can be drawn again. Defaults to True, as in the
            paper's code; pytorchvideo draws different ones.
        fill (int): The grey, 0 to 255. Defaults to 128, as in the paper's code.
            pytorchvideo's 0.5 means values up to 1, and mmaction2's frames get black.

    Raises:
        ValueError: If an argument is out of its range.
    """
    operations = (*COLOURS, *PLACES)

    def __init__(self, magnitude: float = 7, num_layers: int = 4,
                 magnitude_std: float = 0.5, prob: float = 0.5, replace: bool = True,
                 fill: int = 128) -> None:
        super().__init__(magnitude, num_layers, magnitude_std, prob, replace)
        if not 0 <= fill <= 255:
            raise ValueError(f'fill of RandAugment must be 0 to 255, got {fill}')
        self.fill = fill

    def transform(self, results: dict) -> dict:
        """Change the frames.

        Args:
            results (dict): The sample; `imgs` are images (H, W, 3), uint8.

        Returns:
            dict: The sample.

        Raises:
            ValueError: If boxes or displacement fields belong to the frames, which
                would stay where they are.
        """
        for key in ('gt_bboxes', 'proposals', 'motion'):
            if key in results:
                raise ValueError(f'RandAugment moves the frames and {key} would stay: '
                                 'use ColorRandAugment')
        return super().transform(results)

    def change(self, name: str, value: float,
               shape: tuple[int, int]) -> Callable[[np.ndarray], np.ndarray]:
        """See `_RandomOperations.change`."""
        if name in COLOURS:
            return super().change(name, value, shape)
        return partial(cv2.warpAffine, M=PLACES[name].function(*shape, value),
                       dsize=shape[::-1], borderValue=(self.fill, ) * 3,
                       flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)

    def __repr__(self) -> str:
        return f'{super().__repr__()[:-1]}, fill={self.fill})'


@TRANSFORMS.register_module()
class ColorRandAugment(_RandomOperations):
    """`RandAugment` without the operations that move places.

    Displacement fields and boxes stay right. Arguments are those of `RandAugment`
    without `fill`, and so are errors.
    """
    operations = tuple(COLOURS)
