# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""mmaction2's two-stage AVA detector on a pruned backbone, at a reduced size."""
import pytest
import torch
from config_files import load
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch.testing import assert_close

PATH = 'configs/evad/two_stage_videomae_base_ava.py'
SIZE = (64, 96)  # 4x6 places a frame, 8 token frames
BOXES = torch.tensor([[10.0, 12, 50, 60], [40, 4, 90, 50]])


@pytest.fixture
def model():
    cfg = load(PATH).model
    cfg.init_cfg = None  # an address
    cfg.backbone.update(img_size=64, embed_dims=24, num_heads=3)
    cfg.roi_head.bbox_head.in_channels = 24
    with DefaultScope.overwrite_default_scope('mmaction'):
        model = MODELS.build(cfg)
    model.init_weights()
    return model


def batch(size):
    samples = []
    for _ in range(size):
        labels = torch.zeros(2, 81)
        labels[0, 3] = labels[1, 5] = labels[1, 7] = 1
        sample = ActionDataSample(metainfo=dict(img_shape=SIZE))
        sample.gt_instances = InstanceData(bboxes=BOXES, labels=labels)
        sample.proposals = InstanceData(bboxes=BOXES, scores=torch.ones(2))
        samples.append(sample)
    clips = [torch.randint(0, 256, (3, 16, *SIZE), dtype=torch.uint8)
             for _ in range(size)]
    return dict(inputs=clips, data_samples=samples)


def test_a_step_of_training(model):
    data = model.train().data_preprocessor(batch(2), True)
    losses = model(**data, mode='loss')
    losses['loss_action_cls'].backward()
    assert losses['loss_action_cls'].isfinite()
    for name, parameter in model.named_parameters():
        assert parameter.grad.any(), name


def test_detections_read_the_restored_map(model):
    maps, rois = [], []
    model.backbone.register_forward_hook(lambda module, args, out: maps.append(out))
    model.roi_head.bbox_roi_extractor.roi_layer.register_forward_hook(
        lambda module, args, out: rois.append((args, out)))
    with torch.no_grad():
        (result, ) = model.eval().test_step(batch(1))
    assert maps[0].shape == (1, 24, 8, 4, 6)
    assert result.pred_instances.scores.shape == (2, 81)
    assert result.pred_instances.scores.isfinite().all()
    # mmcv's RoIAlign reads a map that is not contiguous wrongly
    (given, _), pooled = rois[0]
    assert given.is_contiguous()
    assert_close(given, maps[0].mean(2))
    assert pooled.shape == (2, 24, 8, 8)


def test_only_the_backbone_differs_from_mmaction2s():
    cfg = load(PATH)
    assert cfg.model.type == 'FastRCNN' and cfg.model.backbone.return_feat_map
    assert [(reducer.within, reducer.keep) for reducer in cfg.model.backbone.reducers
            ] == [(3, 0.7), (6, 0.7), (9, 0.7)]
    assert cfg.val_evaluator.type == 'AVAMetric'
