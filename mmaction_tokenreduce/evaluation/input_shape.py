# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""The size of one view, read from a config: what a model is counted on by default."""
from collections.abc import Mapping
from typing import Any

__all__ = ['default_input_shape']

Shape = tuple[int, int, int, int]


def default_input_shape(config: Any) -> Shape:
    """The (C, T, H, W) that one view of a config has.

    Looked up in this order, time and space each on their own: the pipeline of the
    test dataloader, ``test_pipeline``, those of validation, and the sizes that
    ``model.backbone`` was given. In a pipeline the first sampling step says T
    (``clip_len``), the last step that fixes a size (a crop, or a resize that does
    not keep the aspect ratio) says H and W. Where none does, a last resize into
    bounds stands for a square of the lower one: of videos of all aspect ratios, as
    detectors take them, it is the size that papers count. C is
    ``model.backbone.in_channels`` where it is given, else 3.

    Args:
        config: A dict or mmengine ``Config`` with ``model``, dataloaders, pipelines
            or some of these.

    Returns:
        Channels, frames, height, width.

    Raises:
        ValueError: If time or space is found nowhere.
    """
    frames, size = None, None
    for pipeline in _pipelines(config):
        frames = frames or _clip_len(pipeline)
        size = size or _view_size(pipeline)
    for pipeline in _pipelines(config):
        size = size or _short_side(pipeline)
    backbone = _get(config, 'model', 'backbone') or {}
    frames = frames or _first_int(backbone, 'temporal_size', 'num_frames')
    size = size or _height_width(
        backbone.get('spatial_size') or backbone.get('img_size'))
    if not frames or not size:
        missing = ' and '.join(
            what for what, found in (('clip length', frames), ('frame size', size))
            if not found)
        raise ValueError(
            f'no {missing} in test_dataloader, test_pipeline, val_dataloader, '
            'val_pipeline or model.backbone of the config: give --shape C T H W')
    return (_first_int(backbone, 'in_channels') or 3, frames, *size)


def _pipelines(config: Mapping) -> list[list[Mapping]]:
    """The pipelines of a config, the one that tests a model first."""
    found = []
    for split in ('test', 'val'):
        dataset = _get(config, f'{split}_dataloader', 'dataset')
        while isinstance(dataset, Mapping) and 'pipeline' not in dataset:
            dataset = dataset.get('dataset')  # a wrapper around the data
        found += [_get(dataset, 'pipeline'), config.get(f'{split}_pipeline')]
    return [_flat(pipeline) for pipeline in found if pipeline]


def _flat(pipeline: list[Mapping]) -> list[Mapping]:
    """The steps of a pipeline, those that a step holds in its place (FollowMotion)."""
    return [inner for step in pipeline
            for inner in (_flat(step['transforms']) if 'transforms' in step
                          else [step])]


def _clip_len(pipeline: list[Mapping]) -> int | None:
    """Frames of a clip, from the first step that samples frames."""
    for step in pipeline:
        if 'Sample' in _type_name(step) and step.get('clip_len'):
            return int(step['clip_len'])
    return None


def _view_size(pipeline: list[Mapping]) -> tuple[int, int] | None:
    """(H, W) after the last step that resizes or crops; None if videos decide it."""
    size = None
    for step in pipeline:
        name = _type_name(step)
        if 'Crop' in name:
            size = _height_width(step.get('crop_size', step.get('size')), flip=True)
        elif name == 'Resize':
            fixed = not step.get('keep_ratio', True)
            size = _height_width(step['scale'], flip=True) if fixed else None
    return size


def _short_side(pipeline: list[Mapping]) -> tuple[int, int] | None:
    """A square of the lower bound, if the last resize keeps the ratio within two."""
    scales = [step['scale'] for step in pipeline if _type_name(step) == 'Resize']
    if not scales or isinstance(scales[-1], int | float) or min(scales[-1]) <= 0:
        return None
    return _height_width(int(min(scales[-1])))


def _height_width(size: Any, flip: bool = False) -> tuple[int, int] | None:
    """A size as (H, W): from a number, or a pair ((W, H) if ``flip``)."""
    if isinstance(size, int):
        return (size, size)
    if isinstance(size, list | tuple) and len(size) == 2:
        first, second = (int(side) for side in size)
        return (second, first) if flip else (first, second)
    return None


def _first_int(mapping: Mapping, *keys: str) -> int | None:
    """The first of the keys that holds a whole number."""
    return next((mapping[key] for key in keys if isinstance(mapping.get(key), int)),
                None)


def _type_name(step: Mapping) -> str:
    """Name of a pipeline step's type, which may be a class."""
    kind = step.get('type', '')
    return kind if isinstance(kind, str) else kind.__name__


def _get(mapping: Any, *keys: str) -> Any:
    """Nested lookup that ends at None."""
    for key in keys:
        if not hasattr(mapping, 'get'):  # mmengine's Config is no Mapping
            return None
        mapping = mapping.get(key)
    return mapping
