# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Clips for detection, from packed samples to a batch.

mmaction2's ``ActionDataPreprocessor`` pads before it normalises, so that padding
becomes -mean/std; with a divisor it pads channels and frames as well.

Shapes: B batch, T frames, (H, W) frame.
"""
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmaction.registry import MODELS
from mmengine.model import BaseDataPreprocessor
from torch import Tensor


@MODELS.register_module()
class DetectionDataPreprocessor(BaseDataPreprocessor):
    """Normalises clips, then pads them with zeros, below and to the right, to one size.

    Takes what ``FormatShape(input_format='NCTHW', collapse=True)`` and
    ``PackActionInputs`` give: one clip (3, T, H, W) a sample. Each sample's
    ``img_shape`` is set to the (H, W) of its clip without padding.

    Args:
        mean (Sequence[float]): Mean of the three channels.
        std (Sequence[float]): Their standard deviation.
        to_rgb (bool): Reverse the channels. Defaults to False.
        pad_divisor (int): H and W of a batch are multiples of this. Defaults to 32, at
            which all maps of the pyramid are whole.

    Raises:
        ValueError: If an argument is not allowed.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float],
                 to_rgb: bool = False, pad_divisor: int = 32) -> None:
        super().__init__()
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError('DetectionDataPreprocessor: mean and std must be three '
                             'numbers each, std above 0, got '
                             f'mean={mean} and std={std}')
        if type(pad_divisor) is not int or pad_divisor < 1:
            raise ValueError(f'DetectionDataPreprocessor: pad_divisor={pad_divisor!r}: '
                             'must be a whole number, at least 1')
        self.to_rgb, self.pad_divisor = to_rgb, pad_divisor
        for name, values in (('mean', mean), ('std', std)):
            values = torch.tensor(values, dtype=torch.float32).view(3, 1, 1, 1)
            self.register_buffer(name, values, persistent=False)

    def forward(self, data: Mapping, training: bool = False) -> dict:
        """Make a batch.

        Args:
            data (Mapping): ``inputs``, a list of B clips, and ``data_samples``, as many
                samples, or None.
            training (bool): Without effect.

        Returns:
            dict: ``inputs`` (B, 3, T, H, W) float32 on the model's device, and
                ``data_samples``.

        Raises:
            ValueError: If a clip has another shape, or clips differ in their frames.
        """
        data = self.cast_data(data)
        samples = data.get('data_samples')
        clips = [self._normalised(clip) for clip in data['inputs']]
        frames = {clip.shape[1] for clip in clips}
        if len(frames) != 1:
            raise ValueError('DetectionDataPreprocessor: clips of a batch must have '
                             f'equally many frames, got {sorted(frames)}')
        height, width = (-(-max(clip.shape[axis] for clip in clips) // self.pad_divisor)
                         * self.pad_divisor for axis in (2, 3))
        for clip, sample in zip(clips, samples or (), strict=bool(samples)):
            sample.set_metainfo(dict(img_shape=tuple(clip.shape[2:]),
                                     batch_input_shape=(height, width)))
        inputs = torch.stack([
            F.pad(clip, (0, width - clip.shape[3], 0, height - clip.shape[2]))
            for clip in clips])
        return dict(data, inputs=inputs, data_samples=samples)

    def _normalised(self, clip: Any) -> Tensor:
        if not isinstance(clip, Tensor) or clip.dim() != 4 or clip.shape[0] != 3:
            shape = tuple(clip.shape) if isinstance(clip, Tensor) else type(clip)
            raise ValueError(
                'DetectionDataPreprocessor: a clip must be (3, T, H, W), got '
                f"{shape}: the pipeline needs dict(type='FormatShape', "
                "input_format='NCTHW', collapse=True), and batches of the data loader "
                "collate_fn=dict(type='pseudo_collate')")
        if self.to_rgb:
            clip = clip.flip(0)
        return (clip - self.mean) / self.std
