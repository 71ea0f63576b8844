# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Accuracy of verb, noun and action on EPIC-KITCHENS-100 (DVT, Table 6).

An action is a verb with a noun. Its score is the product of their probabilities, over
all pairs of the two vocabularies, so that the five likeliest actions need not be made
of the five likeliest verbs and nouns.
"""
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmaction.registry import METRICS
from mmengine.evaluator import BaseMetric
from torch import Tensor

TASKS = ('verb', 'noun')


def rank(scores: Tensor, label: int) -> int:
    """How many other classes score at least as high as the label; 0 for the best.

    Ties, and scores that are not a number, count against the label: equal scores for
    all classes are no knowledge of the right one.

    Args:
        scores (Tensor): (C,) scores.
        label (int): The right class.
    """
    return int((~(scores < scores[label])).sum()) - int(scores[label] == scores[label])


def action_rank(verb: Tensor, noun: Tensor, label: Sequence[int]) -> int:
    """The `rank` of the right pair among all pairs of verb and noun.

    Args:
        verb (Tensor): (V,) probabilities.
        noun (Tensor): (N,) probabilities.
        label (Sequence[int]): The right verb and noun.
    """
    pairs = torch.outer(verb.double(), noun.double())
    return rank(pairs.flatten(), label[0] * len(noun) + label[1])


@METRICS.register_module()
class EpicKitchensMetric(BaseMetric):
    """Top-k accuracy of action, verb and noun.

    Reads what `VerbNounHead` predicts, and ``gt_label`` (2,). The first of its values,
    by which ``save_best='auto'`` goes, is ``acc/action_top1``.

    Args:
        topk (Sequence[int]): Which accuracies to give. Defaults to (1, 5).
        collect_device (str): As for mmengine's ``BaseMetric``. Defaults to ``'cpu'``.
        prefix (str, optional): The same. Defaults to ``'acc'``.

    Raises:
        ValueError: If ``topk`` is empty or has a number below 1.
    """

    default_prefix = 'acc'

    def __init__(self, topk: Sequence[int] = (1, 5), collect_device: str = 'cpu',
                 prefix: str | None = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.topk = tuple(topk)
        if not self.topk or min(self.topk) < 1:
            raise ValueError('topk of EpicKitchensMetric must be numbers of 1 or more, '
                             f'got {topk!r}')

    def process(self, data_batch: Any, data_samples: Sequence[Mapping]) -> None:
        """Note the ranks of the right action, verb and noun of each video.

        Args:
            data_batch: Not needed.
            data_samples (Sequence[Mapping]): Predictions: ``pred_score``, a mapping of
                ``verb`` (V,) and ``noun`` (N,) probabilities, and ``gt_label`` (2,).

        Raises:
            ValueError: If a prediction or label is of another form or out of range.
        """
        for sample in data_samples:
            verb, noun = _checked_scores(sample.get('pred_score'))
            label = _checked_label(sample.get('gt_label'), (len(verb), len(noun)))
            self.results.append((action_rank(verb, noun, label), rank(verb, label[0]),
                                 rank(noun, label[1])))

    def compute_metrics(self, results: list[tuple[int, int, int]]) -> dict[str, float]:
        """Shares of videos whose rank is below k.

        Args:
            results (list): Ranks of all videos, from all processes.

        Returns:
            dict: ``action_top1``, ``verb_top1``, ``noun_top1``, ``action_top5`` and so
                on, each from 0 to 1.
        """
        ranks = torch.tensor(results).unbind(1)
        return {f'{name}_top{k}': (column < k).double().mean().item()
                for k in self.topk
                for name, column in zip(('action', *TASKS), ranks, strict=True)}


def _checked_scores(scores: Any) -> tuple[Tensor, Tensor]:
    if not isinstance(scores, Mapping) or any(task not in scores for task in TASKS):
        raise ValueError('EpicKitchensMetric needs a pred_score with verb and noun, as '
                         f'VerbNounHead gives it, got {type(scores).__name__}')
    verb, noun = (scores[task].detach().cpu() for task in TASKS)
    if verb.dim() != 1 or noun.dim() != 1:
        raise ValueError('EpicKitchensMetric needs one row of verb and noun scores for '
                         f'a video, got shapes {list(verb.shape)} and '
                         f'{list(noun.shape)}')
    return verb, noun


def _checked_label(label: Any, counts: tuple[int, int]) -> list[int]:
    if label is None or tuple(label.shape) != (2, ) or label.is_floating_point():
        got = 'nothing' if label is None else f'{label.dtype} {list(label.shape)}'
        raise ValueError('EpicKitchensMetric needs a gt_label of two whole numbers, '
                         f'verb and noun, got {got}')
    label = label.tolist()
    for task, number, count in zip(TASKS, label, counts, strict=True):
        if not 0 <= number < count:
            raise ValueError(f'{task} label {number} must be 0 to {count - 1}, as the '
                             f'model scores {count} classes')
    return label
