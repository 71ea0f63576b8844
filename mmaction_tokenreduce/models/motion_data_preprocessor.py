# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Frames and their motion, from packed samples to what a DVT backbone takes.

mmaction2's ``MultiModalDataPreprocessor`` blends each modality by itself and the labels
once for each; here both belong to one clip and are blended once (`motion_blending`).

Shapes: B batch, V clips of a video, T frames, (H, W) frame, (h, w) field.
"""
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmaction.models.data_preprocessors import ActionDataPreprocessor
from mmaction.registry import MODELS
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from .motion_blending import MotionBlending

INPUTS = ('imgs', 'motion')


@MODELS.register_module()
class MotionDataPreprocessor(BaseDataPreprocessor):
    """Normalises frames, widens motion to float32, stacks and blends both.

    Takes what ``PackActionInputs(collect_keys=('imgs', 'motion'))`` packs: frames
    (V, 3, T, H, W) uint8, and motion (V, C', T, h, w), of which C' is 2 for
    displacements in pixels and any other number for other cues; motion is not
    normalised. Samples of repeated augmentation are samples like others
    (``collate_fn=dict(type='repeat_pseudo_collate')``).

    Args:
        mean (Sequence[float], optional): Mean of the three channels of frames.
        std (Sequence[float], optional): Their standard deviation.
        to_rgb (bool): Reverse the channels of frames. Defaults to False.
        blending (dict, optional): Config of `MotionBlending`, used in training only.

    Raises:
        ValueError: If only one of ``mean`` and ``std`` is given.
        TypeError: If ``blending`` is no config of `MotionBlending`.
    """

    def __init__(self, mean: Sequence[float] | None = None,
                 std: Sequence[float] | None = None, to_rgb: bool = False,
                 blending: dict | None = None) -> None:
        super().__init__()
        if (mean is None) != (std is None):
            raise ValueError('mean and std of MotionDataPreprocessor must be given '
                             f'both or neither, got mean={mean} and std={std}')
        self.frames = ActionDataPreprocessor(
            mean=mean, std=std, to_rgb=to_rgb, format_shape='NCTHW')
        self.to_rgb = to_rgb
        self.blending = None if blending is None else MODELS.build(blending)
        if not isinstance(self.blending, MotionBlending | None):
            raise TypeError(
                'blending of MotionDataPreprocessor must be a MotionBlending, got '
                f'{type(self.blending).__name__}, which would leave motion and frames '
                'apart; in a child config replace it with dict(_delete_=True, '
                "type='MotionBlending', num_classes=...)")

    def forward(self, data: Any, training: bool = False) -> Any:
        """Make model inputs of packed samples.

        Args:
            data (dict or sequence of dicts): ``inputs``: a dict of ``imgs`` and
                ``motion``, each a list of B tensors; ``data_samples``: B samples, or
                None where nothing is blended.
            training (bool): Whether to blend. Defaults to False.

        Returns:
            dict or tuple: As given, ``imgs`` (B, V, 3, T, H, W) and ``motion``
                (B, V, C', T, h, w) float32 on the model's device.

        Raises:
            ValueError: If an input is missing, too many, or its shapes do not fit.
        """
        data = self.cast_data(data)
        if isinstance(data, Mapping):
            return self._forward_batch(data, training)
        return tuple(self._forward_batch(batch, training) for batch in data)

    def _forward_batch(self, data: Mapping, training: bool) -> dict:
        inputs, samples = data['inputs'], data.get('data_samples')
        imgs, motion = self._checked(inputs)
        imgs, _ = self.frames.preprocess(imgs, samples, training)
        motion = torch.stack(motion).float()
        if training and self.blending is not None:
            imgs, motion, samples = self.blending(imgs, motion, samples)
        return dict(data, inputs=dict(imgs=imgs, motion=motion), data_samples=samples)

    def _checked(self, inputs: Any) -> tuple[list[Tensor], list[Tensor]]:
        """Frames and motion of a batch, of one shape each, with equal V and T."""
        if not isinstance(inputs, Mapping) or set(inputs) != set(INPUTS):
            got = sorted(inputs) if isinstance(inputs, Mapping) else (
                type(inputs).__name__)
            raise ValueError(
                f'inputs of MotionDataPreprocessor must be a dict of imgs and motion, '
                f"got {got}; the pipeline's last step must be "
                f"PackActionInputs with collect_keys={INPUTS}")
        batch = {}
        for name in INPUTS:
            values = batch[name] = list(inputs[name])
            shapes = {tuple(value.shape) for value in values}
            if len(shapes) != 1 or len(next(iter(shapes))) != 5:
                raise ValueError(
                    f'{name} of a batch must have one shape (clips, channels, frames, '
                    f'height, width), got {sorted(shapes)}; a pipeline for batches '
                    'needs a crop or a resize to a fixed size')
        frames, fields = batch['imgs'][0].shape, batch['motion'][0].shape
        if (frames[0], frames[2]) != (fields[0], fields[2]) or (
                len(batch['imgs']) != len(batch['motion'])):
            raise ValueError(
                'imgs and motion must have the same clips and frames, got shapes '
                f'{len(batch["imgs"])} x {tuple(frames)} and '
                f'{len(batch["motion"])} x {tuple(fields)} (clips, channels, frames, '
                'height, width)')
        return batch['imgs'], batch['motion']
