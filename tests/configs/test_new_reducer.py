# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""The reducer that docs/new_reducer.md teaches to write works as written there."""
import copy
import sys

import pytest
import torch
from config_files import ROOT
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch.testing import assert_close

from mmaction_tokenreduce.layers import (
    MERGE_STRATEGIES,
    PRUNING_STRATEGIES,
    STRATEGIES,
)
from mmaction_tokenreduce.visualization import SelectionTrace

PAGE = (ROOT / 'docs/new_reducer.md').read_text()
MODULE, CONFIG = (block.split('```')[0] for block in PAGE.split('```python\n')[1:])


@pytest.fixture
def config(tmp_path, monkeypatch):
    """The config of the page, beside its module, at a small size."""
    (tmp_path / 'my_reducers.py').write_text(MODULE)
    (tmp_path / 'mine.py').write_text(CONFIG)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Config.fromfile(tmp_path / 'mine.py')
    MODELS.module_dict.pop('ChangeSelection')
    del sys.modules['my_reducers']


def test_the_reducer_keeps_the_frames_that_change_most(config):
    with DefaultScope.overwrite_default_scope('mmaction'):
        module = MODELS.build(dict(type='ChangeSelection', in_channels=4, keep=0.5))
    x = torch.zeros(1, 1 + 6 * 2 * 3, 4)
    frames = x[:, 1:].view(1, 6, 6, 4)
    frames[:, 2:] += 1  # frame 2 differs from frame 1, frame 5 from frame 4
    frames[:, 5:] += 2
    frames[:, 4, 0] += 0.1  # frame 4 a little from frame 3, and frame 5 from that
    y, thw = module(x, (6, 2, 3))
    assert thw == (3, 2, 3)
    assert_close(y[:, 1:].view(1, 3, 6, 4), frames[:, [2, 4, 5]])
    with DefaultScope.overwrite_default_scope('mmaction'):
        whole = MODELS.build(dict(type='ChangeSelection', in_channels=4, keep=1))
    assert whole(x, (6, 2, 3))[0] is x


def test_it_serves_in_the_config_and_pictures_see_it(config):
    backbone = copy.deepcopy(config.model.backbone)
    backbone.update(arch=dict(embed_dims=8, num_layers=3, num_heads=1,
                              downscale_indices=[1]), spatial_size=32)
    config.model.backbone = backbone
    config.model.cls_head.update(in_channels=16, num_classes=3)
    with DefaultScope.overwrite_default_scope('mmaction'):
        model = MODELS.build(config.model).eval()
    clip = torch.randn(1, 3, 16, 32, 32)
    with torch.inference_mode(), SelectionTrace(model) as trace:
        model(clip[None], mode='tensor')
    assert trace.kept(sample=0).summary().startswith('4 of 8 frames')


def test_the_tables_of_rules_are_where_the_page_says():
    tables = dict(STRATEGIES=STRATEGIES, PRUNING_STRATEGIES=PRUNING_STRATEGIES,
                  MERGE_STRATEGIES=MERGE_STRATEGIES)
    for name, table in tables.items():
        line, = (line for line in PAGE.splitlines() if line.startswith(f'| `{name}`'))
        source = (ROOT / 'mmaction_tokenreduce' / line.split('`')[3]).read_text()
        assert f'\n{name} = ' in source and table
