# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""The recipes of docs/stts.md: selectors in configs and models that people have."""
import importlib.util
from pathlib import Path

import pytest
import torch
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope

from mmaction_tokenreduce.layers import GridReducer

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def mmaction_scope():
    with DefaultScope.overwrite_default_scope('mmaction'):
        yield


def recipe(word):
    """The Python block of docs/stts.md that has a word in it."""
    blocks = (ROOT / 'docs' / 'stts.md').read_text().split('```python\n')[1:]
    found = [block.split('```')[0] for block in blocks if word in block.split('```')[0]]
    assert len(found) == 1, word
    return found[0]


def step_and_test(cfg, frames, size):
    """One step of training and one test of a config's model."""
    model = MODELS.build(cfg.model)
    model.init_weights()
    model.train()
    wrapper = build_optim_wrapper(model, dict(
        type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3)))
    labels = [ActionDataSample().set_gt_label(label) for label in (1, 3)]
    clips = [torch.randint(0, 256, (1, 3, frames, size, size), dtype=torch.uint8)
             for _ in range(2)]
    reducers = [m for m in model.modules() if isinstance(m, GridReducer)]
    before = [p.detach().clone() for r in reducers for p in r.parameters()]
    log = model.train_step(dict(inputs=clips, data_samples=labels), wrapper)
    assert log['loss'].isfinite() and before
    after = [p for r in reducers for p in r.parameters()]
    assert sum(not torch.equal(p, q) for p, q in zip(after, before,
                                                     strict=True)) > len(after) // 2
    model.train(False)
    with torch.no_grad():
        results = model.test_step(dict(inputs=clips, data_samples=labels))
    assert results[0].pred_score.sum().item() == pytest.approx(1, abs=1e-4)
    return model


@pytest.mark.parametrize('word', ['swin-tiny', 'mvit-small'])
def test_a_selector_in_a_config_of_mmaction2(tmp_path, word):
    (tmp_path / 'mine.py').write_text(recipe(word))
    cfg = Config.fromfile(tmp_path / 'mine.py')
    backbone = cfg.model.backbone
    if word == 'swin-tiny':
        backbone.pretrained = None  # the address of ImageNet weights
        backbone.arch = dict(embed_dims=16, depths=[1, 1, 2, 1], num_heads=[1, 1, 2, 4])
        cfg.model.cls_head.in_channels = 128
        step_and_test(cfg, frames=32, size=112)
    else:
        backbone.arch = dict(embed_dims=8, num_layers=16, num_heads=1,
                             downscale_indices=[1, 3, 14])
        cfg.model.cls_head.in_channels = 64
        step_and_test(cfg, frames=16, size=112)


def test_selection_in_a_host_of_ones_own(tmp_path):
    """The UniFormer of the docs keeps mmaction2's weights."""
    path = tmp_path / 'selecting_uniformer.py'
    path.write_text(recipe('SelectingUniFormer'))
    spec = importlib.util.spec_from_file_location('selecting_uniformer', path)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    small = dict(depth=[1, 1, 2, 1], embed_dim=[16, 16, 32, 32], head_dim=16,
                 pretrained2d=False)
    cfg = Config(dict(model=dict(
        type='Recognizer3D',
        backbone=dict(type='SelectingUniFormer', keep=0.5, **small),
        cls_head=dict(type='I3DHead', num_classes=5, in_channels=32,
                      average_clips='prob'),
        data_preprocessor=dict(type='ActionDataPreprocessor', mean=[114.75] * 3,
                               std=[57.375] * 3, format_shape='NCTHW'))))
    try:
        model = step_and_test(cfg, frames=16, size=64)
        dense = MODELS.build(dict(type='UniFormer', **small))
        missing = model.backbone.load_state_dict(dense.state_dict(), strict=False)
        assert not missing.unexpected_keys
        assert all(name.startswith('select.') for name in missing.missing_keys)
        grid = model.backbone(torch.randn(1, 3, 16, 64, 64))
        assert grid.shape == (1, 32, 4, 2, 2)  # 8 token frames, half are kept
    finally:
        MODELS.module_dict.pop('SelectingUniFormer')
