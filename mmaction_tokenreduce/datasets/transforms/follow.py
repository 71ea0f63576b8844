# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Displacement fields follow their frames through mmaction2's own transforms.

`FollowMotion` runs a list of transforms and reads from what each one leaves in the
sample (image size, crop boxes, flip) what it did to the frames. Each transform whose
geometry is known here has an entry in `FOLLOWED`; those that change no place are in
`UNMOVED`; anything else is refused when the pipeline is built.
"""
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from mmaction.datasets.transforms import processing as mm
from mmaction.registry import TRANSFORMS
from mmcv.transforms import BaseTransform

from .rand_augment import ColorRandAugment

_GEOMETRY_KEYS = ('crop_bbox', 'flip', 'flip_direction')


def sample_field(field: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Sample fields bilinearly on a product grid, in units of their cells.

    Args:
        field (np.ndarray): (F, h, w, 2).
        x (np.ndarray): (w',) columns; the centre of the first cell is 0. Beyond the
            outermost centres the outermost cells go on.
        y (np.ndarray): (h',) rows.

    Returns:
        np.ndarray: (F, h', w', 2).
    """
    for axis, places in ((1, y), (2, x)):
        places = places.clip(0, field.shape[axis] - 1)
        low = places.astype(np.intp)
        high = np.minimum(low + 1, field.shape[axis] - 1)
        share = (places - low).astype(field.dtype)
        share = share.reshape((-1, 1, 1) if axis == 1 else (-1, 1))
        below = field.take(low, axis)
        field = below + (field.take(high, axis) - below) * share
    return field


def crop_field(field: np.ndarray, shape: tuple[int, int],
               box: Sequence[float]) -> np.ndarray:
    """Cut a region out of fields.

    The grid keeps its density, so that it still covers the region evenly; where the
    region does not begin and end at cells the field is interpolated.

    Args:
        field (np.ndarray): (F, h, w, 2) px.
        shape (tuple[int, int]): H, W of the image before.
        box (Sequence[float]): x1, y1, x2, y2 in px.

    Returns:
        np.ndarray: (F, h', w', 2) px.
    """
    places = []
    for size, cells, start, end in zip(shape[::-1], field.shape[2:0:-1], box[:2],
                                       box[2:], strict=True):
        if (start, end) == (0, size):
            places.append(np.arange(cells, dtype=np.float32))
            continue
        count = max(1, round((end - start) * cells / size))
        centres = start + (np.arange(count) + 0.5) * (end - start) / count
        places.append(centres * cells / size - 0.5)
    return sample_field(field, *places)


def flip_field(field: np.ndarray, direction: str = 'horizontal') -> np.ndarray:
    """Mirror fields.

    Args:
        field (np.ndarray): (F, h, w, 2).
        direction (str): ``'horizontal'`` or ``'vertical'``.

    Returns:
        np.ndarray: The same shape.
    """
    axis, channel = (2, 0) if direction == 'horizontal' else (1, 1)
    flipped = np.flip(field, axis).copy()
    np.negative(flipped[..., channel], out=flipped[..., channel])
    return flipped


def _follow_resize(results: dict, shape: tuple[int, int]) -> None:
    height, width = results['img_shape']
    results['motion'] = results['motion'] * np.array(
        [width / shape[1], height / shape[0]], results['motion'].dtype)


def _follow_crop(results: dict, shape: tuple[int, int]) -> None:
    results['motion'] = crop_field(results['motion'], shape, results['crop_bbox'])


def _follow_crops(results: dict, shape: tuple[int, int]) -> None:
    """Crops stand one after the other, each with all frames."""
    field, boxes = results['motion'], results['crop_bbox']
    results['motion'] = np.concatenate([
        crop_field(field, shape, box) for box in boxes[::len(field)]])


def _follow_ten_crops(results: dict, shape: tuple[int, int]) -> None:
    """Each crop is followed by its mirror image."""
    field, boxes = results['motion'], results['crop_bbox']
    parts = []
    for box in boxes[::2 * len(field)]:
        part = crop_field(field, shape, box)
        parts += [part, flip_field(part)]
    results['motion'] = np.concatenate(parts)


def _follow_flip(results: dict, shape: tuple[int, int]) -> None:
    if results['flip']:
        results['motion'] = flip_field(results['motion'], results['flip_direction'])


FOLLOWED: dict[type, Callable[[dict, tuple[int, int]], None]] = {
    mm.Resize: _follow_resize, mm.RandomRescale: _follow_resize,
    mm.RandomCrop: _follow_crop, mm.RandomResizedCrop: _follow_crop,
    mm.MultiScaleCrop: _follow_crop, mm.CenterCrop: _follow_crop,
    mm.ThreeCrop: _follow_crops, mm.TenCrop: _follow_ten_crops, mm.Flip: _follow_flip,
}
UNMOVED: tuple[type, ...] = (mm.ColorJitter, mm.RandomErasing, ColorRandAugment)


@TRANSFORMS.register_module()
class FollowMotion(BaseTransform):
    """Run transforms on the frames, and do to ``motion`` what they did to places.

    Flips mirror the fields and negate the component across; crops cut the same region,
    at the accuracy of a fraction of a cell; resizing scales the vectors. Colour
    transforms and RandomErasing change the frames only.

    Required keys: those of the transforms, and ``motion`` and ``motion_shape`` of
    `MotionDecode`.

    Args:
        transforms (Sequence): Configs or transforms: mmaction2's Resize, RandomRescale,
            RandomCrop, RandomResizedCrop, MultiScaleCrop, CenterCrop, ThreeCrop,
            TenCrop, Flip, ColorJitter and RandomErasing, and `ColorRandAugment`.

    Raises:
        ValueError: If a transform is another one, or lazy.
    """

    def __init__(self, transforms: Sequence[dict | Callable]) -> None:
        self.transforms = [TRANSFORMS.build(entry) if isinstance(entry, dict) else entry
                           for entry in transforms]
        for transform in self.transforms:
            _check(transform)

    def transform(self, results: dict) -> dict:
        """Run the transforms.

        Args:
            results (dict): The sample.

        Returns:
            dict: The sample.

        Raises:
            ValueError: If a transform outside of `FollowMotion` moved the frames.
        """
        check_in_step(results)
        for transform in self.transforms:
            shape = tuple(results['img_shape'])
            results = transform(results)
            if type(transform) in FOLLOWED:
                FOLLOWED[type(transform)](results, shape)
        results['motion_shape'] = tuple(results['img_shape'])
        # kept apart, so that such a key tells of a transform outside; see check_in_step
        kept = results.setdefault('motion_geometry', {})
        for key in _GEOMETRY_KEYS:
            if key in results:
                kept[key] = results.pop(key)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(transforms={self.transforms})'


def _check(transform: Any) -> None:
    name = type(transform).__name__
    if getattr(transform, 'lazy', False):
        raise ValueError(f'FollowMotion cannot follow {name}(lazy=True), which moves '
                         'the frames later; use lazy=False')
    if type(transform) not in FOLLOWED and type(transform) not in UNMOVED:
        known = sorted(kind.__name__ for kind in (*FOLLOWED, *UNMOVED))
        raise ValueError(
            f'FollowMotion does not know what {name} does to places, so that the '
            f'displacement fields cannot follow; it takes {", ".join(known)}')


def check_in_step(results: dict) -> None:
    """See that the fields still belong to the frames.

    Args:
        results (dict): The sample.

    Raises:
        KeyError: If there are no fields.
        ValueError: If a transform outside of `FollowMotion` moved the frames.
    """
    if 'motion' not in results:
        raise KeyError('there is no motion in the sample: it comes from MotionDecode')
    moved = 'lazy' in results or 'crop_bbox' in results or results.get('flip', False)
    shape = tuple(np.shape(results['imgs'][0])[:2])
    if moved or tuple(results['img_shape']) != tuple(results['motion_shape']) or (
            shape != tuple(results['motion_shape'])):
        raise ValueError(
            'frames were resized, cropped or flipped and their displacement fields '
            'were not: put such transforms into FollowMotion(transforms=[...])')
