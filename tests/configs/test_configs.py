# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Every config builds, costs what it should, and trains a step at a reduced size."""
from pathlib import Path

import pytest
import torch
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope

from mmaction_tokenreduce.evaluation import (
    count_complexity,
    default_input_shape,
    recognizer_forward,
)

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted(path.relative_to(ROOT).as_posix()
                 for path in (ROOT / 'configs').glob('*/*.py')
                 if path.parent.name != '_base_')

# GFLOPs of the released code (SPEC, section 1); parameters in millions.
RELEASED = {
    'mvit_dense_k400': (70.80, 36.610672),
    'mvit_t09_s09_k400': (56.39, 36.912498),
    'mvit_k400': (47.21, 36.912498),
    'mvit_t06_s09_k400': (38.46, 36.912498),
    'mvit_t05_s07_k400': (26.95, 36.912498),
    'mvit_t04_s06_k400': (18.46, 36.912498),
}


@pytest.fixture(autouse=True)
def mmaction_scope():
    with DefaultScope.overwrite_default_scope('mmaction'):
        yield


def load(path):
    return Config.fromfile(ROOT / path)


def build(cfg):
    return MODELS.build(cfg.model)


def temporal(before, keep):
    return dict(type='TemporalSelection', before=before, keep=keep)


def spatial(before, keep):
    return dict(type='SpatialSelection', before=before, keep=keep)


def gflops(model, shape):
    return count_complexity(model, torch.zeros(1, *shape), recognizer_forward).gflops


@pytest.mark.parametrize('name', RELEASED)
def test_cost_of_the_named_models(name):
    cfg = load(f'configs/stts/{name}.py')
    model, shape = build(cfg), default_input_shape(cfg)
    assert shape == (3, 16, 224, 224)
    released, millions = RELEASED[name]
    assert sum(p.numel() for p in model.parameters()) == round(millions * 1e6)
    assert gflops(model, shape) == pytest.approx(released, rel=0.005)


@pytest.mark.parametrize('reducers,released', [
    ([temporal(0, 0.625)], 41.29),
    ([temporal(4, 0.3)], 37.49),
    ([temporal(0, 0.75), spatial(0, 0.7)], 35.35),
    ([spatial(0, 0.6)], 42.13),
    ([spatial(4, 0.3)], 38.36),
    ([temporal(4, 0.625), temporal(8, 0.4), spatial(4, 0.7), spatial(8, 0.7)], 35.65),
], ids=['T0.6^0', 'T0.3^4', 'T0.8^0-S0.7^0', 'S0.6^0', 'S0.3^4', 'multi-step 4,8'])
def test_cost_of_the_ablations(reducers, released):
    cfg = load('configs/stts/mvit_k400.py')
    cfg.model.backbone.reducers = reducers
    assert gflops(build(cfg), (3, 16, 224, 224)) == pytest.approx(released, rel=0.005)


def shrink(cfg):
    """The same model, small enough to train a step in a test."""
    backbone = cfg.model.backbone
    if backbone.get('arch') == 'small':
        backbone.arch = dict(embed_dims=8, num_layers=16, num_heads=1,
                             downscale_indices=[1, 3, 14])
        cfg.model.cls_head.in_channels = 64
        return (3, 16, 112, 112)
    return default_input_shape(cfg)


@pytest.mark.parametrize('path', CONFIGS)
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
    shape = shrink(cfg)
    model = build(cfg)
    model.init_weights()
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    labels = [ActionDataSample().set_gt_label(label) for label in (1, 3)]
    clips = [torch.randint(0, 256, (1, *shape), dtype=torch.uint8) for _ in range(2)]
    before = [p.detach().clone() for p in model.parameters()]
    log = model.train_step(dict(inputs=clips, data_samples=labels), wrapper)
    assert log['loss'].isfinite()
    assert any(not torch.equal(p, q) for p, q in zip(model.parameters(), before,
                                                     strict=True))
    model.eval()
    views = [torch.cat([clip, clip]) for clip in clips]  # two views of each video
    with torch.no_grad():
        results = model.test_step(dict(inputs=views, data_samples=labels))
    for result in results:
        assert result.pred_score.shape == (cfg.model.cls_head.num_classes, )
        assert result.pred_score.sum().item() == pytest.approx(1, abs=1e-4)


def test_learning_rates_and_weight_decay_of_stts():
    """1e-4 for selectors, 0.01 of it for the host, no decay of 1-d parameters."""
    cfg = load('configs/stts/mvit_k400.py')
    for form in ('released', 'paper'):
        for reducer in cfg.model.backbone.reducers:
            reducer.score_net = form
        shrink(cfg)
        model = build(cfg)
        optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
        names = {id(p): name for name, p in model.named_parameters()}
        seen = 0
        for group in optimizer.param_groups:
            for parameter in group['params']:
                name = names[id(parameter)]
                rate = 1e-4 if 'score_net' in name else 1e-6
                decay = 0.0 if parameter.dim() == 1 else 0.05
                assert group['lr'] == pytest.approx(rate), name
                assert group['weight_decay'] == pytest.approx(decay), name
                seen += 1
        assert seen == len(names)


def test_selecting_configs_of_the_demo_cost_alike_and_much_less():
    costs = {}
    for name in ('dense', 'stts', 'random'):
        cfg = load(f'configs/demo/mvit_{name}.py')
        costs[name] = gflops(build(cfg), default_input_shape(cfg))
    assert costs['stts'] <= 0.55 * costs['dense']
    assert costs['random'] == pytest.approx(costs['stts'], rel=0.02)
