# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Configs of EVAD parse, build, train a step and test at a reduced size."""
import pytest
import torch
from config_files import DETECTORS, build, load, shrink_detector
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from tiny_evad import clip, random_boxes, sample


@pytest.mark.parametrize('path', DETECTORS)
def test_a_step_of_training_and_a_test(path):
    cfg = load(path)
    _, frames, *size = shrink_detector(cfg)
    with DefaultScope.overwrite_default_scope('mmaction'):
        model = build(cfg)
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    model.init_weights()
    classes = cfg.train_dataloader.dataset.num_classes - 1
    labels = torch.eye(classes + 1)[[1, classes]]
    samples = [sample(random_boxes(2, *shape), labels) for shape in (size, (48, 64))]
    clips = [clip(*size, frames), clip(48, 64, frames)]
    before = [p.detach().clone() for p in model.parameters()]
    log = model.train_step(dict(inputs=clips, data_samples=samples), wrapper)
    assert log['loss'].isfinite()
    assert any(not torch.equal(p, q) for p, q in zip(model.parameters(), before,
                                                     strict=True))
    model.eval()
    with torch.no_grad():
        results = model.test_step(dict(inputs=clips, data_samples=samples))
    metrics = cfg.val_evaluator
    for metric in metrics if isinstance(metrics, list) else [metrics]:
        assert metric.num_classes == classes + 1
    for result in results:
        scores = result.pred_instances.scores
        assert scores.shape == (len(result.pred_instances.bboxes), classes + 1)
        assert len(scores) > 0 and scores.isfinite().all()
