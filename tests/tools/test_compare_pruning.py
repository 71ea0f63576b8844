# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""The comparison of prunings: its models are comparable."""
import importlib

import pytest
import torch
from mmengine.registry import DefaultScope

PRUNED = ('moving_actors', 'random', 'released')


@pytest.fixture
def tool(repo_dir, monkeypatch):
    monkeypatch.syspath_prepend(str(repo_dir / 'tools'))
    with DefaultScope.overwrite_default_scope('mmaction'):
        yield importlib.import_module('compare_pruning').COMPARISON


def tokens_left(tool, name):
    """How many tokens each block of a way's encoder hands on."""
    model = importlib.import_module('_model').build_model(tool.config(name)).eval()
    counts = []
    for block in model.backbone.blocks:
        block.register_forward_hook(lambda block, args, out: counts.append(
            (out if isinstance(out, torch.Tensor) else out[0]).shape[1]))
    with torch.inference_mode():
        clip = model.backbone(torch.zeros(1, 3, 8, 96, 128))
    return counts[0], clip.tokens.shape[1]


def test_prunings_leave_as_many_tokens_as_the_configs_say(tool):
    left = {name: tokens_left(tool, name) for name in tool.ways}
    assert left == {
        'dense': (192, 192), 'tuned': (192, 192), 'moving_actors': (192, 48 + 47),
        'random': (192, 48 + 47), 'released': (192, 48 + 47)}


def test_all_but_the_dense_model_are_trained_alike(tool):
    tuned = tool.config('tuned')
    assert tuned.model == tool.config('dense').model
    for name in PRUNED:
        for key in ('train_cfg', 'optim_wrapper', 'param_scheduler', 'load_from',
                    'train_dataloader', 'train_pipeline', 'test_dataloader'):
            assert tool.config(name)[key] == tuned[key], (name, key)
    assert tuned.load_from == str(tool.last_checkpoint('dense', 0))


def test_ways_differ_in_what_they_are_named_for(tool):
    models = {name: tool.config(name).model.to_dict() for name in PRUNED}
    attention, released = models['moving_actors'], models['released']
    assert released['action_head'].pop('remap') == 'released'
    assert released == attention
    wanted = attention['backbone'].pop('reducers')
    prunings = models['random']['backbone'].pop('reducers')
    assert prunings == [dict(pruning, strategy='random') for pruning in wanted]
    assert models['random'] == attention
