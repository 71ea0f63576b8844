# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Labels of one task or several, in the one label field that mmaction2 has.

A sample's ``gt_label`` is one of two:

- hard: (K,) whole numbers, one for each of K tasks. K = 1 is mmaction2's own form; of
  EPIC-KITCHENS it is (verb, noun), which ``PackActionInputs`` makes of the list that
  `EpicKitchensDataset` yields.
- soft: (C_1 + ... + C_K,) floats, the distributions over the classes of each task
  joined in that order. Mixup and cutmix make these; K = 1 is mmaction2's form again.

Shapes: B batch, K tasks, C_k classes of task k.
"""
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def is_soft(label: Tensor) -> bool:
    """Whether a label holds distributions rather than class numbers."""
    return label.is_floating_point()


def soft_labels(labels: Sequence[Tensor], num_classes: Sequence[int]) -> Tensor:
    """Labels of a batch as distributions.

    Args:
        labels: B labels, all hard (K,) or all soft (sum of C_k,).
        num_classes: C_k of each task.

    Returns:
        (B, sum of C_k) float32; soft labels are taken as they are.

    Raises:
        ValueError: If the labels differ in form, or do not fit ``num_classes``.
    """
    joined = _stacked(labels)
    _check_width(joined, num_classes)
    if is_soft(joined):
        return joined.float()
    _check_range(joined, num_classes)
    parts = [F.one_hot(column, count) for column, count
             in zip(joined.long().unbind(1), num_classes, strict=True)]
    return torch.cat(parts, dim=1).float()


def split_labels(labels: Sequence[Tensor],
                 num_classes: Sequence[int]) -> tuple[Tensor, ...]:
    """The labels of a batch, task by task.

    Args:
        labels: B labels, all hard (K,) or all soft (sum of C_k,).
        num_classes: C_k of each task.

    Returns:
        K tensors: (B, 1) integers of hard labels, (B, C_k) floats of soft ones.

    Raises:
        ValueError: If the labels differ in form, or do not fit ``num_classes``.
    """
    joined = _stacked(labels)
    _check_width(joined, num_classes)
    if is_soft(joined):
        return joined.split(list(num_classes), dim=1)
    _check_range(joined, num_classes)
    return joined.split(1, dim=1)


def _stacked(labels: Sequence[Tensor]) -> Tensor:
    """One tensor (B, width) of the labels of a batch."""
    forms = {(tuple(label.shape), is_soft(label)) for label in labels}
    if len(forms) != 1:
        shown = ', '.join(f'{list(shape)} {"soft" if soft else "hard"}'
                          for shape, soft in sorted(forms))
        raise ValueError(f'the labels of a batch must have one form, got {shown}')
    joined = torch.stack(list(labels))
    if joined.dim() != 2:
        raise ValueError('a label must be one row of numbers, got shape '
                         f'{list(joined.shape[1:])}')
    return joined


def _check_width(joined: Tensor, num_classes: Sequence[int]) -> None:
    soft = is_soft(joined)
    wanted = sum(num_classes) if soft else len(num_classes)
    if joined.size(1) != wanted:
        kind = 'soft labels' if soft else 'labels'
        raise ValueError(f'{kind} have {joined.size(1)} numbers, but num_classes='
                         f'{tuple(num_classes)} asks for {wanted}')


def _check_range(joined: Tensor, num_classes: Sequence[int]) -> None:
    """Raise where a class number is out of range (one_hot does not name it)."""
    for task, column in enumerate(zip(*joined.tolist(), strict=True)):
        for label in column:
            if not 0 <= label < num_classes[task]:
                where = f' of task {task}' if len(num_classes) > 1 else ''
                raise ValueError(
                    f'label {label}{where} must be 0 to {num_classes[task] - 1}, as '
                    f'num_classes={tuple(num_classes)}')
