# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Verb and noun of EPIC-KITCHENS-100 from one feature (DVT, Sec. 4.2 and Table 6).

Two of mmaction2's heads side by side, each with its own classifier and loss; the paper
does not describe its head. Labels are those of `joint_labels`, verb before noun.
"""
import torch
from mmaction.models.heads import BaseHead
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmaction.utils import SampleList
from mmengine.model import BaseModule
from torch import Tensor

from ..joint_labels import split_labels

TASKS = ('verb', 'noun')
SET_HERE = ('num_classes', 'average_clips', 'multi_class')


@MODELS.register_module()
class VerbNounHead(BaseModule):
    """Classifies verb and noun with a head each, and adds up their losses.

    Args:
        head (dict): Config of either head, any of mmaction2's that gives one row of
            scores for a view: ``MViTHead`` for maps and class tokens as MViT gives
            them, ``TimeSformerHead`` for pooled vectors. Without ``num_classes``,
            ``average_clips`` and ``multi_class``.
        num_verbs (int): Verb classes. Defaults to 97.
        num_nouns (int): Noun classes. Defaults to 300.
        average_clips (str): How the views of a video are averaged: ``'prob'``, their
            probabilities, or ``'score'``, their logits. Defaults to ``'prob'``.
        init_cfg (dict, optional): As for mmengine's ``BaseModule``.

    Raises:
        ValueError: If ``head`` holds what is set here, or ``average_clips`` is another
            word.
        TypeError: If ``head`` builds something else than one of mmaction2's heads.
    """

    def __init__(self, head: dict, num_verbs: int = 97, num_nouns: int = 300,
                 average_clips: str = 'prob', init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        double = [key for key in SET_HERE if key in head]
        if double:
            raise ValueError(f'head of VerbNounHead must not have {", ".join(double)}; '
                             'num_verbs, num_nouns and average_clips of VerbNounHead '
                             'say it')
        if average_clips not in ('prob', 'score'):
            raise ValueError("average_clips of VerbNounHead must be 'prob' or 'score', "
                             f'got {average_clips!r}')
        self.num_classes = (num_verbs, num_nouns)
        self.average_clips = average_clips
        self.verb_head, self.noun_head = (
            MODELS.build(dict(head, num_classes=count)) for count in self.num_classes)
        if not isinstance(self.verb_head, BaseHead):
            raise TypeError("head of VerbNounHead must be one of mmaction2's heads, "
                            f'got {type(self.verb_head).__name__}')

    @property
    def heads(self) -> tuple[BaseHead, BaseHead]:
        """The head of verbs and that of nouns."""
        return self.verb_head, self.noun_head

    def forward(self, feats: object, **kwargs: object) -> tuple[Tensor, Tensor]:
        """Logits of both tasks.

        Args:
            feats: What the backbone gives for N views, as ``head`` takes it.
            **kwargs: What ``head`` takes besides.

        Returns:
            tuple: (N, num_verbs) and (N, num_nouns).
        """
        verb_head, noun_head = self.heads
        return verb_head(feats, **kwargs), noun_head(feats, **kwargs)

    def loss(self, feats: object, data_samples: SampleList,
             **kwargs: object) -> dict[str, Tensor]:
        """Losses and training accuracy of both tasks.

        Args:
            feats: What the backbone gives for N views.
            data_samples (list[ActionDataSample]): N samples; ``gt_label`` (2,) verb
                and noun, or (num_verbs + num_nouns,) their mixed distributions.
            **kwargs: What ``head`` takes besides.

        Returns:
            dict: What ``head`` reports, after ``verb_`` and ``noun_``; mmengine adds
                up ``verb_loss_cls`` and ``noun_loss_cls``.

        Raises:
            ValueError: If the labels do not fit the numbers of classes.
        """
        scores = self(feats, **kwargs)
        labels = split_labels([sample.gt_label for sample in data_samples],
                              self.num_classes)
        losses = {}
        for task, head, logits, label in zip(TASKS, self.heads, scores, labels,
                                             strict=True):
            samples = [ActionDataSample().set_gt_label(row) for row in label]
            # float32: numpy, which counts the accuracy, knows no bfloat16
            for name, value in head.loss_by_feat(logits.float(), samples).items():
                losses[f'{task}_{name}'] = value
        return losses

    def predict(self, feats: object, data_samples: SampleList,
                **kwargs: object) -> SampleList:
        """Probabilities of verbs and nouns, averaged over the views of a video.

        Args:
            feats: What the backbone gives for B videos of V views, video by video.
            data_samples (list[ActionDataSample]): B samples.
            **kwargs: What ``head`` takes besides.

        Returns:
            list[ActionDataSample]: The samples, with ``pred_score``, a dict of
                ``verb`` (num_verbs,) and ``noun`` (num_nouns,), each summing to 1; and
                ``pred_label`` (2,), the likeliest verb and noun.
        """
        scores = [self._averaged(logits, len(data_samples))
                  for logits in self(feats, **kwargs)]
        for sample, *pair in zip(data_samples, *scores, strict=True):
            sample.set_pred_score(dict(zip(TASKS, pair, strict=True)))
            sample.set_pred_label(torch.stack([score.argmax() for score in pair]))
        return data_samples

    def _averaged(self, logits: Tensor, videos: int) -> Tensor:
        """(B * V, C) logits -> (B, C) probabilities."""
        logits = logits.float().unflatten(0, (videos, -1))
        if self.average_clips == 'score':
            return logits.mean(1).softmax(-1)
        return logits.softmax(-1).mean(1)
