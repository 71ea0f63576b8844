# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""The comparison of merging with dropping: its models are comparable."""
import importlib

import pytest
import torch
from mmengine.registry import DefaultScope


@pytest.fixture
def tool(repo_dir, monkeypatch):
    monkeypatch.syspath_prepend(str(repo_dir / 'tools'))
    with DefaultScope.overwrite_default_scope('mmaction'):
        yield importlib.import_module('compare_merging').COMPARISON


def tokens_of_layers(tool, name):
    """How many tokens each layer of a way's model is given."""
    model = importlib.import_module('_model').build_model(tool.config(name)).eval()
    counts = []
    for block in model.backbone.blocks:
        block.register_forward_pre_hook(
            lambda block, args: counts.append(args[0].shape[1]))
    with torch.inference_mode():
        model(torch.zeros(1, 1, 3, 16, 64, 64), mode='tensor')
    return counts


def test_reduced_models_leave_equally_many_tokens(tool):
    for name in tool.ways:
        dense = name in ('dense', 'tuned')
        assert tokens_of_layers(tool, name) == (
            [256] * 4 if dense else [256, 256, 128, 64]), name


def test_all_but_the_dense_model_are_trained_alike(tool):
    configs = {name: tool.config(name) for name in tool.ways if name != 'dense'}
    tuned = configs.pop('tuned')
    assert tuned.model == tool.config('dense').model
    for name, config in configs.items():
        for key in ('train_cfg', 'optim_wrapper', 'param_scheduler', 'load_from',
                    'train_dataloader', 'train_pipeline'):
            assert config[key] == tuned[key], (name, key)
    assert tuned.load_from == str(tool.last_checkpoint('dense', 0))


def test_ways_differ_in_what_they_are_named_for(tool):
    reducers = {name: tool.config(name).model.backbone.get('reducers')
                for name in tool.ways}
    for name, change in (('merged_no_motion', dict(motion=False)),
                         ('merged_random', dict(strategy='random'))):
        assert reducers[name] == [dict(merge, **change)
                                  for merge in reducers['merged']]
    assert {reducer['strategy'] for reducer in reducers['dropped']} == {'random'}


def test_merges_start_as_averages_of_tokens(tool):
    """Also after init_weights, which training calls before it loads the parent."""
    model = importlib.import_module('_model').build_model(tool.config('merged'))
    model.init_weights()
    for merging in model.backbone.reducers:
        torch.testing.assert_close(merging.phi.weight, torch.eye(64))
        torch.testing.assert_close(merging.fuse.weight, torch.eye(64, 128))
    std = model.backbone.patch_embed.projection.weight.std().item()
    assert std == pytest.approx(0.036, rel=0.05)


def test_batches_hold_as_many_clips_of_each_class(tool):
    """Which the dense model needs to learn at all (configs/demo/vit_dense.py)."""
    datasets = importlib.import_module('mmaction_tokenreduce.datasets.moving_shapes')
    loader = tool.config('dense').train_dataloader
    classes = len(datasets.CLASS_NAMES)
    assert not loader.sampler.shuffle and loader.batch_size % classes == 0
    assert [datasets.label_of(i) for i in range(2 * classes)] == 2 * list(
        range(classes))
