# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Configs of classifiers parse, build, train a step and test at a reduced size."""
import pytest
import torch
from config_files import CLASSIFIERS, ROOT, build, cost, load, shrink
from mmaction.structures import ActionDataSample
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope


@pytest.fixture(autouse=True)
def mmaction_scope():
    with DefaultScope.overwrite_default_scope('mmaction'):
        yield


@pytest.mark.parametrize('path', CLASSIFIERS)
def test_a_step_of_training_and_a_test(path):
    train_and_test(load(path))


def test_the_config_of_the_readme(tmp_path):
    """Selectors in one of mmaction2's own configs, MViTv2-S."""
    text = (ROOT / 'README.md').read_text().split('```python\n')[1].split('```')[0]
    (tmp_path / 'mine.py').write_text(text)
    cfg = Config.fromfile(tmp_path / 'mine.py')
    assert len(cfg.model.backbone.reducers) == 2
    cfg.model.backbone.arch = 'small'  # the default of its base
    train_and_test(cfg)


def train_and_test(cfg):
    shape = shrink(cfg, fewer=True)
    model = build(cfg)
    model.init_weights()
    wrapper = build_optim_wrapper(model, optimizer_of(cfg))
    classes = getattr(model.cls_head, 'num_classes', None)
    pairs = isinstance(classes, tuple)  # verb and noun
    labels = [ActionDataSample().set_gt_label([label, 2] if pairs else label)
              for label in (1, 3)]
    before = [p.detach().clone() for p in model.parameters()]
    log = model.train_step(dict(inputs=inputs(cfg, shape, 1), data_samples=labels),
                           wrapper)
    assert log['loss'].isfinite()
    assert any(not torch.equal(p, q) for p, q in zip(model.parameters(), before,
                                                     strict=True))
    model.eval()
    with torch.no_grad():
        results = model.test_step(dict(inputs=inputs(cfg, shape, 2),
                                       data_samples=labels))
    for result in results:
        scores = result.pred_score
        scores = list(scores.values()) if pairs else [scores]
        assert [len(score) for score in scores] == list(classes if pairs else [classes])
        for score in scores:
            if cfg.model.cls_head.get('average_clips', 'prob') == 'prob':
                assert score.sum().item() == pytest.approx(1, abs=1e-4)
            assert score.isfinite().all()


def optimizer_of(cfg):
    """A config's; one for mmaction2's VideoMAE, which only tests; AMP for the CPU."""
    wrapper = cfg.get('optim_wrapper') or dict(
        type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3))
    if wrapper.get('type') == 'AmpOptimWrapper':  # as tools/train.py does
        wrapper.type = 'CPUAmpOptimWrapper'
    return wrapper


def inputs(cfg, shape, views):
    """Two videos, and their motion for the models that take it."""
    imgs = [torch.randint(0, 256, (views, *shape), dtype=torch.uint8)
            for _ in range(2)]
    if cfg.model.type != 'MMRecognizer3D':
        return imgs
    cell = cfg.model.backbone.motion_stride
    size = (views, 2, shape[1], shape[2] // cell, shape[3] // cell)
    return dict(imgs=imgs, motion=[4 * torch.randn(size).half() for _ in range(2)])


def test_selecting_configs_of_the_demo_cost_alike_and_much_less():
    costs = {name: cost(load(f'configs/demo/mvit_{name}.py')).flops
             for name in ('dense', 'stts', 'random')}
    assert costs['stts'] <= 0.55 * costs['dense']
    assert costs['random'] == pytest.approx(costs['stts'], rel=0.02)
