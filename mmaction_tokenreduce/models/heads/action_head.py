# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What heads that name the actions of actors share: labels, loss and scores.

mmaction2's data sets of boxes have a column more than there are actions: ids count from
1, column 0 is of no use. A head has no logit for it; scores get a column of zeros.

Legend: B clips, N boxes of a clip, G actors of a clip, K actions.
"""
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from ..sparse_localizer import Match
from ..token_sequence import EncodedClip

__all__ = ['ActionHead']


class ActionHead(BaseModule):
    """Base of heads that classify boxes.

    Args:
        num_classes: K, without the unused column 0.
        loss_weight: Of each classifier's loss.
        multilabel: Whether an actor does several things at once (sigmoid, binary
            cross-entropy), or exactly one (softmax, cross-entropy).
        init_cfg: As for mmengine's ``BaseModule``.
    """

    def __init__(self, num_classes: int, loss_weight: float, multilabel: bool,
                 init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        if type(num_classes) is not int or num_classes < 1:
            raise ValueError(f'{type(self).__name__}: num_classes={num_classes!r}: '
                             'must be a whole number, at least 1')
        self.num_classes, self.loss_weight = num_classes, loss_weight
        self.multilabel = multilabel

    def forward(self, clip: EncodedClip, boxes: Tensor, sizes: Tensor,
                all_depths: bool = False) -> list[Tensor]:
        """Logits of boxes.

        Args:
            clip: What the encoder left.
            boxes: (B, N, 4) in pixels of the network's input, detached.
            sizes: (B, 2), height and width of the images without padding.
            all_depths: Whether every classifier is asked, for the loss, or the last
                alone.

        Returns:
            (B, N, K) each; the last gives the scores.
        """
        raise NotImplementedError  # abstract

    def targets(self, labels: Tensor, where: str) -> Tensor:
        """Labels of a clip's actors as the loss takes them: (G, K) float32.

        Args:
            labels: (G, K + 1), 1 where an actor does an action; or their ids, (G,) or
                (G, ids of each actor), integers that count from 1.
            where: The clip, for messages.

        Raises:
            ValueError: If labels are outside of the K classes; or not exactly one for
                an actor where ``multilabel`` is off.
        """
        columns = self.num_classes + 1
        if not len(labels):
            return labels.new_zeros(0, self.num_classes, dtype=torch.float32)
        if not labels.is_floating_point():
            ids = labels.reshape(len(labels), -1).long()
            wrong = ids[(ids < 0) | (ids >= columns)]
            if len(wrong):
                raise ValueError(self._misfit(f'label {wrong[0].item()}', where))
            labels = torch.zeros(len(ids), columns, device=ids.device).scatter(
                1, ids, 1.0)
        if labels.dim() != 2 or labels.shape[1] != columns:
            raise ValueError(self._misfit(
                f'labels of shape {tuple(labels.shape)}', where))
        if labels[:, 0].any():
            raise ValueError(self._misfit('label 0', where))
        labels = labels[:, 1:].float()
        if not self.multilabel and not (labels.sum(1) == 1).all():
            raise ValueError(
                f'{type(self).__name__}: multilabel=False: every actor must have '
                f'exactly one label, {where} has {labels.sum(1).int().tolist()}')
        return labels

    def _misfit(self, what: str, where: str) -> str:
        columns = self.num_classes + 1
        return (f'{type(self).__name__}: num_classes={self.num_classes}: {where} has '
                f'{what}; ids go from 1 to {self.num_classes}, and num_classes of the '
                f'data set must be {columns}, for its unused column 0')

    def loss(self, logits: Sequence[Tensor], matches: Sequence[Match],
             targets: Sequence[Tensor]) -> dict[str, Tensor]:
        """Losses on the proposals that stand for actors.

        Args:
            logits: (B, N, K), by classifier.
            matches: Of each clip.
            targets: (G, K) of each clip.

        Returns:
            ``depth<i>.loss_action``, the mean over actors (and, with ``multilabel``,
            over actions), or 0 where there is no actor.
        """
        target = torch.cat([rows[match.actors] for rows, match in zip(
            targets, matches, strict=True)])
        losses = {}
        for depth, values in enumerate(logits):
            found = torch.cat([rows[match.proposals] for rows, match in zip(
                values.float(), matches, strict=True)])
            # All logits take part, with 0, for DDP to find every parameter.
            value = values.float().sum() * 0
            if len(target):
                measure = (F.binary_cross_entropy_with_logits if self.multilabel
                           else F.cross_entropy)
                value = value + self.loss_weight * measure(found, target)
            losses[f'depth{depth}.loss_action'] = value
        return losses

    def scores(self, logits: Tensor) -> Tensor:
        """Logits (..., K) to scores (..., K + 1) in float32, 0 in column 0."""
        logits = logits.float()
        scores = logits.sigmoid() if self.multilabel else logits.softmax(-1)
        return F.pad(scores, (1, 0))
