# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""A detector of a few thousand parameters, and clips with actors for it."""
import mmaction_tokenreduce  # noqa: F401, I001  (compat comes before mmaction)

import torch
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.structures import InstanceData
from torch import Tensor, nn

CLASSES = 5
FRAMES = 8  # 4 token frames


def config(keep=(1, 0.7, 1, 0.7), classes: int = CLASSES, head: dict | None = None,
           localizer: dict | None = None, backbone: dict | None = None,
           **kwargs) -> dict:
    """Config of a small EVAD.

    Args:
        keep (Sequence[float]): Share of tokens kept within each block.
        classes (int): Actions.
        head (dict, optional): Changes to the action head.
        localizer (dict, optional): Changes to the localiser.
        backbone (dict, optional): Changes to the backbone.
        **kwargs: Changes to the detector.
    """
    return dict(
        _scope_='mmaction', type='EVAD',
        backbone=dict(
            type='ReducedViT', img_size=64, patch_size=16, embed_dims=32, depth=4,
            num_heads=2, num_frames=FRAMES, norm_cfg=dict(type='LN', eps=1e-6),
            out_indices=(0, 1, 2, 3),
            reducers=[dict(type='KeyframePruning', within=i, keep=share)
                      for i, share in enumerate(keep) if share < 1]) | (backbone or {}),
        neck=[dict(type='KeyframePyramid'),
              dict(type='mmdet.FPN', in_channels=[32] * 4, out_channels=32,
                   num_outs=4)],
        localizer=dict(
            type='SparseLocalizer', num_proposals=10, num_stages=2, channels=32,
            head=dict(num_heads=4, feedforward_channels=64), dynamic_channels=8) | (
                localizer or {}),
        action_head=dict(
            type='ContextRefinementHead', in_channels=32, channels=24, depth=2,
            num_heads=2, num_classes=classes, hidden_channels=32, drop_path=0.0,
            grid=(4, 4, 4)) | (
                head or {}),
        data_preprocessor=dict(
            type='DetectionDataPreprocessor', mean=[114.75] * 3, std=[57.375] * 3),
    ) | kwargs


def detector(**kwargs) -> nn.Module:
    """The detector of `config`, with its initial values."""
    model = MODELS.build(config(**kwargs))
    model.init_weights()
    return model


def clip(height: int = 64, width: int = 96, frames: int = FRAMES) -> Tensor:
    """A clip (3, T, H, W) uint8 as a pipeline packs it."""
    return torch.randint(0, 256, (3, frames, height, width), dtype=torch.uint8)


def sample(boxes: Tensor | list, labels: Tensor | None = None, classes: int = CLASSES,
           **metainfo) -> ActionDataSample:
    """A data sample with actors.

    Args:
        boxes (Tensor | list): (G, 4) in pixels.
        labels (Tensor, optional): Labels; drawn, one to three an actor, unless given.
        classes (int): Actions.
        **metainfo: Metainfo besides ``video_id`` and ``timestamp``.
    """
    boxes = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    if labels is None:
        labels = torch.zeros(len(boxes), classes + 1)
        for row in labels:
            count = int(torch.randint(1, 4, ()))
            row[torch.randperm(classes)[:count] + 1] = 1
    result = ActionDataSample(
        gt_instances=InstanceData(bboxes=boxes, labels=labels))
    result.set_metainfo(dict(video_id='v', timestamp=902, img_key='v,0902') | metainfo)
    return result


def random_boxes(count: int, height: int = 64, width: int = 96) -> Tensor:
    """(count, 4) boxes inside an image, a few pixels wide at least."""
    scale = torch.tensor([width - 8.0, height - 8.0])
    low = torch.rand(count, 2) * scale
    size = 8 + torch.rand(count, 2) * (scale - low)
    return torch.cat((low, low + size), 1)
