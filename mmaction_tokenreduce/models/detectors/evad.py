# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""EVAD: actors and their actions from one pruned encoder, without proposals of others.

Chen et al., *Efficient Video Action Detection with Token Dropout and Context
Refinement* (Fig. 2): an encoder keeps the keyframe and what matters to it, a localiser
finds actors on the keyframe, a head names what they do.

Legend: B clips, N proposals, G actors of a clip, K actions.
"""
from collections.abc import Mapping, Sequence

import torch
from mmaction.registry import MODELS
from mmaction.utils import SampleList
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from torch import Tensor, nn

from ...ops.boxes import clip_boxes, covered_places, whwh
from ..heads import ActionHead
from ..mmdet_parts import require_mmdet
from ..necks import KeyframePyramid
from ..sparse_localizer import SparseLocalizer, Stage
from ..token_sequence import EncodedClip


@MODELS.register_module()
class EVAD(BaseModel):
    """Detects actions in clips, in the data structures of mmaction2.

    Works with mmaction2's ``AVADataset`` and ``AVAMetric``: ``gt_instances`` has boxes
    in pixels and labels with an unused column 0; ``pred_instances`` gets ``bboxes``
    (n, 4) as shares of width and height, ``scores`` (n, K + 1) and ``person_scores``
    (n,).

    Args:
        backbone: A ``ReducedViT`` with ``out_indices``.
        neck: What makes a pyramid of the keyframe's maps; a list acts in its order.
        localizer: A :class:`SparseLocalizer`.
        action_head: A :class:`ContextRefinementHead` or :class:`LinearActionHead`.
        person_thr: Boxes that are a person with at least this probability are given; if
            there are none, all are.
        weigh_by_person: Whether scores of actions are multiplied by the probability of
            a person. The release does not.
        mask_padding: Whether tokens of padding are kept out of attention. The release
            does not. How much a clip is padded matters in either case: positions are
            resized to the padded frame, padding counts in how many tokens are kept,
            and the neck sees it.
        average_losses: Whether the sum of all losses is divided by how many they are,
            as in the release (AdamW hardly feels it).
        data_preprocessor: A :class:`DetectionDataPreprocessor`.
        init_cfg: As for mmengine's ``BaseModule``.

    Raises:
        ImportError: If mmdet is not installed.
        ValueError: If an argument is not allowed, or parts do not fit each other.
    """

    def __init__(self,
                 backbone: Mapping,
                 neck: Mapping | Sequence[Mapping],
                 localizer: Mapping,
                 action_head: Mapping,
                 person_thr: float = 0.7,
                 weigh_by_person: bool = False,
                 mask_padding: bool = False,
                 average_losses: bool = True,
                 data_preprocessor: Mapping | None = None,
                 init_cfg: dict | None = None) -> None:
        require_mmdet(type(self).__name__)
        super().__init__(data_preprocessor, init_cfg)
        if not 0 <= person_thr <= 1:
            raise ValueError(f'EVAD: person_thr={person_thr!r}: must be in [0, 1]')
        self.backbone = MODELS.build(backbone)
        necks = [neck] if isinstance(neck, Mapping) else neck
        self.neck = nn.Sequential(*map(MODELS.build, necks))
        self.localizer = MODELS.build(localizer)
        self.action_head = MODELS.build(action_head)
        self.person_thr, self.mask_padding = person_thr, mask_padding
        self.average_losses, self.weigh_by_person = average_losses, weigh_by_person
        self._check_parts()

    def _check_parts(self) -> None:
        if getattr(self.backbone, 'out_indices', None) is None:
            raise ValueError('EVAD: backbone.out_indices must name the blocks after '
                             'which the keyframe goes to the neck')
        for name, part, kind in (('localizer', self.localizer, SparseLocalizer),
                                 ('action_head', self.action_head, ActionHead)):
            if not isinstance(part, kind):
                raise ValueError(f'EVAD: {name} must be a {kind.__name__}, got '
                                 f'{type(part).__name__}')
        head = self.action_head
        if getattr(head, 'context', None) == 'all' and not self.backbone.return_dropped:
            raise ValueError("EVAD: action_head.context='all' needs "
                             'backbone.return_dropped=True')
        if getattr(head, 'remap', None) == 'released' and any(
                getattr(r, 'unified', False) for r in self.backbone.reducers):
            raise ValueError("EVAD: action_head.remap='released' needs the tokens of "
                             'the keyframe, which reducers with unified=True drop')
        self._check_strides()

    def _check_strides(self) -> None:
        """Boxes in pixels are read from maps: head and localiser must know how many
        pixels a token has."""
        patch = tuple(self.backbone.patch_embed.projection.stride[1:])
        pooling = getattr(self.action_head, 'pooling', None)
        if pooling is not None and (pooling.stride, ) * 2 != patch:
            raise ValueError(f'EVAD: action_head.stride={pooling.stride}: a token of '
                             f'the backbone is {patch[0]}x{patch[1]} pixels')
        pyramid, strides = self.neck[0], self.localizer.roi_align.strides
        if isinstance(pyramid, KeyframePyramid):
            made = [patch[0] / scale for scale in pyramid.scales]
            if any(a != b for a, b in zip(made, strides, strict=False)):
                raise ValueError(
                    f'EVAD: localizer.strides={strides}: the maps of KeyframePyramid '
                    f'have {", ".join(f"{stride:g}" for stride in made)}')

    def forward(self, inputs: Tensor, data_samples: SampleList | None = None,
                mode: str = 'tensor') -> tuple | dict[str, Tensor] | SampleList:
        """Detect.

        Args:
            inputs: (B, 3, T, H, W), normalised and padded.
            data_samples: What is known of the clips. Without ``img_shape``, and where
                None is given, there is no padding.
            mode: ``'tensor'``, ``'loss'`` or ``'predict'``.

        Returns:
            ``'tensor'``: logits of person and nobody (B, N, 2), boxes (B, N, 4) in
            pixels, not clipped, and logits of actions (B, N, K). ``'loss'``: losses by
            name. ``'predict'``: the samples with ``pred_instances``.

        Raises:
            ValueError: If ``mode`` is another word, or labels do not fit.
        """
        if mode not in ('tensor', 'loss', 'predict'):
            raise ValueError(f"EVAD: mode={mode!r}: allowed are 'tensor', 'loss', "
                             "'predict'")
        sizes = self._sizes(inputs, data_samples)
        stages, logits = self.detect(inputs, sizes, all_depths=mode == 'loss')
        if mode == 'tensor':
            return (*stages[-1], logits[-1])
        if mode == 'loss':
            return self.loss(stages, logits, data_samples, sizes)
        return self.predict(stages[-1], logits[-1], data_samples, sizes)

    def detect(self, inputs: Tensor, sizes: Tensor,
               all_depths: bool = False) -> tuple[list[Stage], list[Tensor]]:
        """Encode, find actors, name actions.

        Args:
            inputs: (B, 3, T, H, W).
            sizes: (B, 2), height and width without padding.
            all_depths: Whether every classifier of the head is asked.

        Returns:
            What each stage found, and the logits of each classifier.
        """
        clip = self.encode(inputs, sizes)
        stages = self.localizer(self.neck(clip.keyframe_maps), sizes)
        boxes = stages[-1].boxes.detach()
        return stages, self.action_head(clip, boxes, sizes, all_depths)

    def encode(self, inputs: Tensor, sizes: Tensor) -> EncodedClip:
        """The encoder's tokens, those of padding masked where that is asked for."""
        if not self.mask_padding:
            return self.backbone(inputs)
        steps = self.backbone.patch_embed.projection.stride[1:]
        hw = tuple(side // step for side, step in zip(inputs.shape[3:], steps,
                                                      strict=True))
        return self.backbone(inputs, covered_places(sizes, hw, steps[0]))

    def _sizes(self, inputs: Tensor, samples: SampleList | None) -> Tensor:
        """(B, 2) float32: height and width of each clip without padding."""
        full = tuple(inputs.shape[3:])
        sizes = [sample.metainfo.get('img_shape', full) for sample in samples or ()]
        return torch.tensor(sizes or [full] * len(inputs), dtype=torch.float32,
                            device=inputs.device)

    def loss(self, stages: Sequence[Stage], logits: Sequence[Tensor],
             data_samples: SampleList, sizes: Tensor) -> dict[str, Tensor]:
        """Losses of all stages and all classifiers, by name.

        Args:
            stages: What each stage found.
            logits: (B, N, K) of each classifier.
            data_samples: With ``gt_instances``.
            sizes: (B, 2).

        Raises:
            ValueError: If labels do not fit the head.
        """
        actors, targets = [], []
        for sample in data_samples:
            truth = sample.gt_instances
            actors.append(truth.bboxes.reshape(-1, 4))
            where = f'clip {sample.metainfo.get("img_key", "without img_key")}'
            targets.append(self.action_head.targets(truth.labels, where))
        losses, matches = self.localizer.loss(stages, actors, sizes)
        losses.update(self.action_head.loss(logits, matches, targets))
        if self.average_losses:
            losses = {name: loss / len(losses) for name, loss in losses.items()}
        return losses

    def predict(self, stage: Stage, logits: Tensor, data_samples: SampleList,
                sizes: Tensor) -> SampleList:
        """Write what was found to the samples.

        Args:
            stage: What the last stage found.
            logits: (B, N, K).
            data_samples: Of the clips.
            sizes: (B, 2).
        """
        boxes = clip_boxes(stage.boxes, sizes) / whwh(sizes)
        persons, scores = stage.scores, self.action_head.scores(logits)
        if self.weigh_by_person:
            scores = scores * persons.unsqueeze(-1)
        for i, sample in enumerate(data_samples):
            found = persons[i] >= self.person_thr
            if not found.any():
                found = ~found
            sample.pred_instances = InstanceData(
                bboxes=boxes[i][found], scores=scores[i][found],
                person_scores=persons[i][found])
        return data_samples
