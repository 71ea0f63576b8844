# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Actors on the keyframe, found by learned proposals (Sparse R-CNN, as EVAD has it).

Proposals, heads of the stages and the matching are mmdet's. Decoding and losses are
not: mmdet bounds shrinking too, and divides the class loss by the number of actors,
which a batch without any blows up. RoIAlign is ours (``ops/roi_align.py``).

Legend: B clips, N proposals, G actors of a clip.
"""
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmaction.registry import MODELS
from mmengine.dist import all_reduce
from mmengine.model import BaseModule, ModuleList
from mmengine.structures import InstanceData
from torch import Tensor

from ..layers import PyramidRoIAlign, replace_linears
from ..ops.boxes import apply_deltas, whwh
from ..ops.precision import no_autocast
from .mmdet_parts import build_part, build_task_part, require_mmdet

__all__ = ['Match', 'SparseLocalizer', 'Stage']


class Stage(NamedTuple):
    """What a stage found.

    Attributes:
        logits: (B, N, 2) float32: a person, nobody.
        boxes: (B, N, 4) float32, pixels of the network's input, not clipped.
    """
    logits: Tensor
    boxes: Tensor

    @property
    def scores(self) -> Tensor:
        """(B, N) probability that a proposal is a person."""
        return self.logits.softmax(-1)[..., 0]


class Match(NamedTuple):
    """Which proposals stand for which actors of a clip: both (G,) int64."""
    proposals: Tensor
    actors: Tensor


@MODELS.register_module()
class SparseLocalizer(BaseModule):
    """Stages that move learned boxes onto actors.

    Args:
        num_proposals: N.
        num_stages: How many times boxes are refined.
        channels: Of the pyramid's maps, and of proposals.
        strides: Pixels per cell of the pyramid's maps.
        head: Arguments of mmdet's DIIHead that differ from its own (8 heads, an FFN of
            2048, one layer for classes, three for boxes).
        dynamic_channels: Inner width of its DynamicConv.
        weights: Of class, L1 and GIoU, in matching and in the losses.
        nobody_weight: Of proposals that stand for no actor, in the class loss.

    Raises:
        ImportError: If mmdet is not installed.
        ValueError: If an argument is not allowed.
    """

    def __init__(self,
                 num_proposals: int = 100,
                 num_stages: int = 6,
                 channels: int = 256,
                 strides: Sequence[int] = (4, 8, 16, 32),
                 head: Mapping | None = None,
                 dynamic_channels: int = 64,
                 weights: tuple[float, float, float] = (2.0, 5.0, 2.0),
                 nobody_weight: float = 0.1) -> None:
        require_mmdet(type(self).__name__)
        super().__init__()
        for name, value in (('num_proposals', num_proposals),
                            ('num_stages', num_stages)):
            if type(value) is not int or value < 1:
                raise ValueError(f'SparseLocalizer: {name}={value!r}: must be a whole '
                                 'number, at least 1')
        if len(weights) != 3 or min(weights) < 0:
            raise ValueError(f'SparseLocalizer: weights={weights!r}: must be three '
                             'numbers, of class, L1 and GIoU')
        if not 0 < nobody_weight < float('inf'):  # 0: no class loss without actors
            raise ValueError(f'SparseLocalizer: nobody_weight={nobody_weight!r}: must '
                             'be a finite number above 0')
        self.num_proposals = num_proposals
        self.weights, self.nobody_weight = tuple(weights), nobody_weight
        self.proposals = build_part(dict(
            type='EmbeddingRPNHead', num_proposals=num_proposals,
            proposal_feature_channel=channels))
        self.roi_align = PyramidRoIAlign(strides)
        self.stages = ModuleList(
            build_part(_head_config(channels, dynamic_channels, head or {},
                                    self.roi_align.bins))
            for _ in range(num_stages))
        self.assigner = build_task_part(dict(type='HungarianAssigner', match_costs=[
            dict(type='ClassificationCost', weight=self.weights[0]),
            dict(type='BBoxL1Cost', weight=self.weights[1], box_format='xyxy'),
            dict(type='IoUCost', iou_mode='giou', weight=self.weights[2])]))
        replace_linears(self)

    def forward(self, maps: Sequence[Tensor], sizes: Tensor) -> list[Stage]:
        """Find actors.

        Args:
            maps: The pyramid, (B, C, H, W) each.
            sizes: (B, 2), height and width of the keyframes without padding.

        Returns:
            What each stage found; the last is the result.
        """
        maps = [m.permute(0, 2, 3, 1) for m in maps]
        boxes = self._initial_boxes(sizes)
        features = self.proposals.init_proposal_features.weight.expand(
            len(sizes), -1, -1)
        stages = []
        for stage in self.stages:
            bins = self.roi_align(maps, boxes).flatten(0, 1).mT
            bins = bins.unflatten(-1, (self.roi_align.bins, -1))
            logits, deltas, features, _ = stage(bins, features)
            with no_autocast(boxes):
                # Each stage learns from its own boxes only.
                boxes = apply_deltas(boxes if not stages else boxes.detach(),
                                     deltas.float())
            stages.append(Stage(logits.float(), boxes))
        return stages

    def _initial_boxes(self, sizes: Tensor) -> Tensor:
        """(B, N, 4) float32: the learned boxes, in pixels of each image."""
        centre, size = self.proposals.init_proposal_bboxes.weight.float().chunk(2, -1)
        size = size.abs()  # learned without bounds
        return torch.cat((centre - 0.5 * size, centre + 0.5 * size), -1) * whwh(
            sizes).float()

    @torch.no_grad()
    def match(self, stage: Stage, actors: Sequence[Tensor],
              sizes: Tensor) -> list[Match]:
        """Give each actor the proposal that costs least in all.

        Args:
            stage: What was found.
            actors: Boxes (G, 4) float32 of each clip.
            sizes: (B, 2).

        Raises:
            FloatingPointError: If what was found is not finite.
            ValueError: If a clip has more actors than there are proposals.
        """
        matches = []
        for logits, boxes, actual, size in zip(*stage, actors, sizes.tolist(),
                                               strict=True):
            if len(actual) > self.num_proposals:
                raise ValueError(f'SparseLocalizer: num_proposals={self.num_proposals}:'
                                 f' a clip has {len(actual)} actors; it must be at '
                                 'least as many')
            if len(actual) and not (logits.isfinite().all() and boxes.isfinite().all()):
                raise FloatingPointError(
                    'SparseLocalizer: boxes or scores are not finite, training has '
                    'diverged: lower optim_wrapper.optimizer.lr or warm up longer')
            labels = torch.zeros(len(actual), dtype=torch.long, device=boxes.device)
            assigned = self.assigner.assign(
                InstanceData(bboxes=boxes, scores=logits),
                InstanceData(bboxes=actual, labels=labels), dict(img_shape=size))
            proposals = assigned.gt_inds.nonzero().squeeze(1)
            matches.append(Match(proposals, assigned.gt_inds[proposals] - 1))
        return matches

    def loss(self, stages: Sequence[Stage], actors: Sequence[Tensor],
             sizes: Tensor) -> tuple[dict[str, Tensor], list[Match]]:
        """Losses of every stage, each matched by itself.

        Args:
            stages: What :meth:`forward` found.
            actors: Boxes (G, 4) of each clip, in pixels of the network's input.
            sizes: (B, 2).

        Returns:
            ``stage<i>.loss_person``, ``.loss_l1`` and ``.loss_giou``; and what was
            matched at the last stage.
        """
        losses = {}
        with no_autocast(sizes):
            actors = [boxes.float() for boxes in actors]
            count = stages[0].boxes.new_tensor([sum(map(len, actors))])
            all_reduce(count, op='mean')
            for number, stage in enumerate(stages):
                matches = self.match(stage, actors, sizes)
                values = self._stage_loss(stage, matches, actors, sizes, count.clamp(1))
                losses.update((f'stage{number}.loss_{name}', value)
                              for name, value in values.items())
        return losses, matches

    def _stage_loss(self, stage: Stage, matches: Sequence[Match],
                    actors: Sequence[Tensor], sizes: Tensor,
                    count: Tensor) -> dict[str, Tensor]:
        from mmdet.structures.bbox import bbox_overlaps
        target = stage.logits.new_ones(stage.logits.shape[:2], dtype=torch.long)
        for row, match in zip(target, matches, strict=True):
            row[match.proposals] = 0
        # Divided by the sum of the weights, as reduction='mean' has it.
        person = F.cross_entropy(stage.logits.flatten(0, 1), target.flatten(),
                                 stage.logits.new_tensor([1.0, self.nobody_weight]))
        found = torch.cat([boxes[match.proposals] for boxes, match in zip(
            stage.boxes, matches, strict=True)])
        actual = torch.cat([boxes[match.actors] for boxes, match in zip(
            actors, matches, strict=True)])
        scale = torch.cat([size.expand(len(match.actors), -1) for size, match in zip(
            whwh(sizes).to(found.dtype), matches, strict=True)])
        overlap = bbox_overlaps(found, actual, mode='giou', is_aligned=True, eps=1e-7)
        # Boxes of a batch without actors take part, with 0, for DDP to find them.
        nothing = stage.boxes.sum() * 0
        losses = dict(person=person,
                      l1=(found / scale - actual / scale).abs().sum() / count.squeeze(),
                      giou=(1 - overlap).sum() / count.squeeze())
        return {name: weight * value + (0 if name == 'person' else nothing)
                for (name, value), weight in zip(losses.items(), self.weights,
                                                 strict=True)}


def _head_config(channels: int, dynamic_channels: int, head: Mapping,
                 bins: int) -> dict:
    """Config of one stage's DIIHead."""
    return dict(
        dict(type='DIIHead', num_heads=8, feedforward_channels=2048, num_cls_fcs=1,
             num_reg_fcs=3),
        **head, num_classes=1, in_channels=channels,
        loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False),
        dynamic_conv_cfg=dict(
            type='DynamicConv', in_channels=channels, feat_channels=dynamic_channels,
            out_channels=channels, input_feat_shape=bins, norm_cfg=dict(type='LN'),
            act_cfg=dict(type='ReLU', inplace=True)))
