# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Mixup and cutmix of frames and their motion, drawn once for both (DVT, Sec. 4.1).

mmaction2's blendings know one input: used for each modality in turn they draw another
lambda and another partner for each, and mix the labels twice. Here the partners, the
lambda and the box are drawn once, and serve frames, fields and labels.

- Mixup: both are lambda * own + (1 - lambda) * partner's. The mixed field is the mean
  motion under the weights with which the two frames show.
- Cutmix: one box of both. Its edges lie on the field's cells, rounded to the nearest,
  so that no cell holds the motion of another video than the pixels below it; the
  labels' lambda is the share of pixels outside of the box. On a field of one cell to
  16 pixels a box of less than 8 pixels may vanish; then nothing is mixed.

The DVT paper says no more than that its augmentation is MViT's; how fields are mixed is
our choice. Label smoothing is the head's affair (``label_smooth_eps``), which smooths
mixed labels as well.

Shapes: B batch, V clips of a video, T frames, (H, W) frame, (h, w) field.
"""
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmaction.registry import MODELS
from mmaction.utils import SampleList
from torch import Tensor
from torch.distributions.beta import Beta

from .joint_labels import soft_labels


class CutBox(NamedTuple):
    """A box on the pixels of a frame and on the cells of its field, and what it is."""

    pixels: tuple[slice, slice]  # rows, columns
    cells: tuple[slice, slice]
    share: float  # of the frame's pixels


def cut_box(lam: float, centre: tuple[float, float], size: tuple[int, int],
            grid: tuple[int, int]) -> CutBox:
    """A box of the frame's proportions and about 1 - lambda of its area.

    CutMix (arXiv 1905.04899), Eq. 2: sides are sqrt(1 - lambda) of the frame's; what
    falls outside of the frame is cut off. The edges are moved to those of cells.

    Args:
        lam (float): Share of the frame to leave, before cutting off and rounding.
        centre (tuple): (y, x) of the box, each from 0 to 1.
        size (tuple): (H, W) in pixels.
        grid (tuple): (h, w) in cells.

    Returns:
        CutBox: Where it is; empty if it rounds to no cell.
    """
    side = math.sqrt(1 - lam)
    cells, pixels, share = [], [], 1.0
    for middle, length, count in zip(centre, size, grid, strict=True):
        low = _nearest(max(middle - side / 2, 0) * count)
        high = _nearest(min(middle + side / 2, 1) * count)
        first, last = (_nearest(edge * length / count) for edge in (low, high))
        cells.append(slice(low, high))
        pixels.append(slice(first, last))
        share *= (last - first) / length
    return CutBox((pixels[0], pixels[1]), (cells[0], cells[1]), share)


def _nearest(value: float) -> int:
    """The nearest whole number, halves upwards (Python's round takes the even one)."""
    return math.floor(value + 0.5)


@MODELS.register_module()
class MotionBlending:
    """Blends a batch with itself, frames and motion alike.

    Each sample gets a partner from a random permutation of the batch. All draws are
    torch's, on the CPU.

    Args:
        num_classes (int or tuple[int]): Classes; of each task where samples carry
            several labels, such as (97, 300) for verb and noun (`joint_labels`).
        mixup_alpha (float): Lambda of mixup is drawn from Beta(alpha, alpha); 0 leaves
            mixup out. Defaults to 0.8.
        cutmix_alpha (float): The same for cutmix. Defaults to 1.0.
        prob (float): Probability that a batch is blended at all. Defaults to 1.0.
        switch_prob (float): Probability of cutmix where both are in use. Defaults to
            0.5.

    Raises:
        ValueError: If ``num_classes`` holds no positive number, an alpha is negative,
            both are 0, or a probability is outside of 0 to 1.
    """

    def __init__(self, num_classes: int | Sequence[int], mixup_alpha: float = 0.8,
                 cutmix_alpha: float = 1.0, prob: float = 1.0,
                 switch_prob: float = 0.5) -> None:
        counts = (num_classes, ) if isinstance(num_classes, int) else num_classes
        self.num_classes = tuple(counts)
        if not self.num_classes or min(self.num_classes) < 1:
            raise ValueError('num_classes of MotionBlending must be 1 or more, for '
                             f'each task, got {num_classes!r}')
        for name, alpha in (('mixup_alpha', mixup_alpha),
                            ('cutmix_alpha', cutmix_alpha)):
            if alpha < 0:
                raise ValueError(f'{name} of MotionBlending must be 0 or more, '
                                 f'got {alpha}')
        if not mixup_alpha and not cutmix_alpha:
            raise ValueError('mixup_alpha and cutmix_alpha of MotionBlending are both '
                             '0: set blending=None instead')
        for name, share in (('prob', prob), ('switch_prob', switch_prob)):
            if not 0 <= share <= 1:
                raise ValueError(f'{name} of MotionBlending must be 0 to 1, '
                                 f'got {share}')
        self.mixup_alpha = mixup_alpha
        self.cutmix_alpha = cutmix_alpha
        self.prob = prob
        self.switch_prob = switch_prob

    def __call__(self, imgs: Tensor, motion: Tensor,
                 data_samples: SampleList) -> tuple[Tensor, Tensor, SampleList]:
        """Blend a batch.

        Args:
            imgs (Tensor): (B, V, C, T, H, W) float; may be written to.
            motion (Tensor): (B, V, C', T, h, w) float; may be written to.
            data_samples (list[ActionDataSample]): B samples with ``gt_label``.

        Returns:
            tuple: Frames and motion, blended, and the samples, whose ``gt_label`` is
                soft from now on, also in a batch that stays as it is.

        Raises:
            ValueError: If a label does not fit ``num_classes``.
        """
        labels = soft_labels([sample.gt_label for sample in data_samples],
                             self.num_classes)
        if torch.rand(()) < self.prob:
            partner = torch.randperm(len(imgs))
            if self._draws_cutmix():
                lam = self._cutmix(imgs, motion, partner)
            else:
                lam = float(Beta(self.mixup_alpha, self.mixup_alpha).sample())
                imgs = imgs[partner].lerp_(imgs, lam)
                motion = motion[partner].lerp_(motion, lam)
            labels = labels[partner].lerp_(labels, lam)
        for sample, label in zip(data_samples, labels, strict=True):
            sample.set_gt_label(label)
        return imgs, motion, data_samples

    def _draws_cutmix(self) -> bool:
        if not self.mixup_alpha or not self.cutmix_alpha:
            return bool(self.cutmix_alpha)
        return bool(torch.rand(()) < self.switch_prob)

    def _cutmix(self, imgs: Tensor, motion: Tensor, partner: Tensor) -> float:
        """Write the partners' box into both; returns the share of pixels that stay."""
        lam = float(Beta(self.cutmix_alpha, self.cutmix_alpha).sample())
        y, x = torch.rand(2).tolist()
        box = cut_box(lam, (y, x), imgs.shape[-2:], motion.shape[-2:])
        for values, place in ((imgs, box.pixels), (motion, box.cells)):
            inside = values[(..., *place)]
            inside.copy_(inside[partner])
        return 1 - box.share
