# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""A video as the test pipeline of a config gives it, and a model that takes it."""
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from mmaction.models.recognizers import MMRecognizer3D, Recognizer3D
from mmaction.registry import TRANSFORMS
from mmengine.config import Config
from torch import Tensor

from mmaction_tokenreduce.convert import read_checkpoint
from mmaction_tokenreduce.datasets import BadVideoError
from mmaction_tokenreduce.datasets.video_dataset import missing_or_empty, video_fault
from mmaction_tokenreduce.engine.hooks.check_load_hook import (
    WRAPPER_PREFIX,
    compare_state,
    describe,
)
from mmaction_tokenreduce.engine.user_errors import ConfigError
from mmaction_tokenreduce.layers import SelectionError
from mmaction_tokenreduce.models.detectors import EVAD

Recognizer = Recognizer3D | MMRecognizer3D
MOTION_KEYS = ('imgs', 'motion')


class Clip(NamedTuple):
    """One view of a video, as a model's data preprocessor takes it.

    Attributes:
        imgs: (3, F, H, W) uint8.
        motion: (C, F, h, w), for models that take motion; else None.
        sample: What belongs to it.
        flags: What the reader of motion met in the stream, by name.
    """
    imgs: Tensor
    motion: Tensor | None
    sample: Any
    flags: Mapping[str, Any]

    @property
    def size(self) -> tuple[int, int, int]:
        """Frames, height and width."""
        return tuple(self.imgs.shape[1:])

    def batch(self) -> dict[str, Any]:
        """A batch of this clip alone."""
        inputs = [self.imgs.unsqueeze(0)]
        if self.motion is not None:
            inputs = dict(imgs=inputs, motion=[self.motion.unsqueeze(0)])
        return dict(inputs=inputs, data_samples=[self.sample])


def test_dataset(config: Config) -> Mapping[str, Any]:
    """The dataset of the test dataloader, out of its wrappers; empty without one."""
    dataset = (config.get('test_dataloader') or {}).get('dataset') or {}
    while 'pipeline' not in dataset and 'dataset' in dataset:
        dataset = dataset['dataset']
    return dataset


def test_steps(config: Config, path: str) -> list[Any]:
    """The transforms of a config's test pipeline.

    Args:
        config: The config.
        path: Its file, for messages.

    Raises:
        ConfigError: If it has no test pipeline.
    """
    steps = test_dataset(config).get('pipeline') or config.get('test_pipeline')
    if not steps:
        raise ConfigError(f'config file {path} has no test pipeline, neither in '
                          'test_dataloader.dataset.pipeline nor in test_pipeline')
    scope = config.get('default_scope') or 'mmaction'
    return [TRANSFORMS.build({'_scope_': scope, **step}) for step in steps]


def read_clips(config: Config, path: str, video: str, with_motion: bool) -> list[Clip]:
    """Run the test pipeline of a config on a video.

    Args:
        config: The config.
        path: Its file, for messages.
        video: The video file.
        with_motion: Whether the model takes motion beside frames.

    Returns:
        The views of the video.

    Raises:
        ConfigError: If the config has no test pipeline that gives such views.
        BadVideoError: If the video cannot be read.
    """
    steps = test_steps(config, path)
    reason = missing_or_empty(video)
    if reason is not None:
        raise BadVideoError(f'video {video} cannot be read: {reason}')
    results = dict(filename=video, start_index=0, modality='RGB', label=-1)
    flags: Mapping[str, Any] = {}
    try:
        for step in steps:
            flags = results.get('motion_flags', flags)
            results = step(results)
    except Exception as error:
        reason = video_fault(video)
        if reason is not None:
            raise BadVideoError(f'video {video} cannot be read: {reason}') from error
        if isinstance(error, KeyError):
            raise ConfigError(
                f'config file {path}: the test pipeline asks for {error} of a sample, '
                'which a video file does not give') from error
        raise
    results = results if isinstance(results, Mapping) else {}
    imgs, motion = checked_inputs(results.get('inputs'), path, with_motion)
    return [Clip(view, None if motion is None else motion[i], results['data_samples'],
                 flags) for i, view in enumerate(imgs)]


def checked_inputs(inputs: Any, path: str,
                   with_motion: bool) -> tuple[Tensor, Tensor | None]:
    """Frames and, if asked for, motion, as the test pipeline of a recogniser packs it.

    Args:
        inputs: What it packed.
        path: The config file, for messages.
        with_motion: Whether the model takes motion beside frames.

    Returns:
        (V, 3, F, H, W) uint8, and (V, C, F, h, w) or None.

    Raises:
        ConfigError: If they are of another form.
    """
    motion, imgs, pack = None, inputs, 'PackActionInputs'
    if with_motion:
        pack = f'PackActionInputs(collect_keys={MOTION_KEYS})'
        imgs, motion = (map(inputs.get, MOTION_KEYS) if isinstance(inputs, Mapping)
                        else (None, None))
    fits = (isinstance(imgs, Tensor) and imgs.dtype == torch.uint8 and imgs.ndim == 5
            and imgs.shape[1] == 3)
    if fits and with_motion:
        fits = (isinstance(motion, Tensor) and motion.ndim == 5
                and motion.shape[:3:2] == imgs.shape[:3:2])
    if not fits:
        raise ConfigError(
            f'config file {path}: the test pipeline must decode a video, end in '
            f"FormatShape(input_format='NCTHW') and {pack}, and leave normalising to "
            'the data_preprocessor')
    return imgs, motion


def takes_motion(model: Recognizer) -> bool:
    """Whether a model takes motion beside frames."""
    return isinstance(model, MMRecognizer3D)


def detects(model: torch.nn.Module, config: Config, path: str) -> bool:
    """Whether a model is a detector, rather than a recogniser.

    Raises:
        ConfigError: If it is neither.
    """
    if isinstance(model, EVAD):
        return True
    if not isinstance(model, Recognizer):
        raise ConfigError(f'config file {path}: model.type={config.model.type}: only '
                          'Recognizer3D, MMRecognizer3D, EVAD and their subclasses can '
                          'be drawn')
    return False


def load_weights(model: torch.nn.Module, checkpoint: str, path: str) -> None:
    """Give a model the weights of a checkpoint.

    Args:
        model: The model.
        checkpoint: The file.
        path: The file of the model's config, for messages.

    Raises:
        ConfigError: If the checkpoint does not fit.
        FileNotFoundError: If it does not exist.
        ValueError: If the file is no checkpoint, or would need an unsafe pickle.
    """
    state = {key.removeprefix(WRAPPER_PREFIX): value
             for key, value in read_checkpoint(checkpoint).items()}
    mismatch = compare_state(model, state)
    if any(mismatch):
        raise ConfigError(
            f'checkpoint {checkpoint} does not fit the model of {path}: '
            f'{describe(mismatch)}; a released checkpoint is converted first, with '
            'tools/convert_checkpoint.py')
    model.load_state_dict(state, strict=False)  # compared above


def predict(model: Recognizer, clip: Clip) -> Tensor | dict[str, Tensor]:
    """Run a model on one clip: its scores (classes, ), of each task if it has several.

    Raises:
        ConfigError: If the model cannot take it.
    """
    size = 'x'.join(map(str, clip.imgs.shape))
    what = f'one view of {size} (C x T x H x W)'
    return scores_of(predict_batch(model, clip.batch(), what)[0])


def predict_batch(model: torch.nn.Module, batch: Mapping[str, Any],
                  what: str) -> list[Any]:
    """Run a model on a batch.

    Args:
        model: The model.
        batch: For its data preprocessor.
        what: What is in it, for messages.

    Returns:
        The samples, with what was predicted.

    Raises:
        ConfigError: If the model cannot take it.
    """
    batch = model.data_preprocessor(batch, False)
    try:
        return model(**batch, mode='predict')
    except SelectionError:
        raise
    except RuntimeError as error:
        raise ConfigError(f'the model cannot take {what}: {error}') from error


def scores_of(sample: Any) -> Tensor | dict[str, Tensor]:
    """The scores (classes, ) that a recogniser gave a sample, of each task if it has
    several."""
    scores = sample.pred_score
    if isinstance(scores, Mapping):
        return {task: part.flatten().cpu() for task, part in scores.items()}
    return scores.flatten().cpu()
