# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""The comparison of ways to select: what it runs, keeps and prints."""
import importlib
import json

import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope


@pytest.fixture
def module(repo_dir, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(repo_dir / 'tools'))
    module = importlib.import_module('_compare')
    monkeypatch.setattr(module.Comparison, 'runs', tmp_path / 'runs')
    with DefaultScope.overwrite_default_scope('mmaction'):
        yield module


@pytest.fixture
def tool(module):
    return importlib.import_module('compare_selection').COMPARISON


def test_ways_of_one_budget_cost_alike(tool):
    frames = [tool.gflops(name) for name in tool.ways if name.startswith('frames')]
    regions = [tool.gflops(name) for name in tool.ways if name.startswith('regions')]
    assert max(frames) <= 1.03 * min(frames) and max(regions) <= 1.03 * min(regions)
    assert max(frames + regions) < 0.6 * tool.gflops('dense')


def test_results_are_kept_and_not_made_again(module, tool, monkeypatch):
    runs = []

    def run(self, name, seed):
        runs.append((name, seed))
        if name == 'frames_random':
            raise module.StepFailed('train.py ended with status 1')
        return 0.5 + seed / 10

    monkeypatch.setattr(module.Comparison, 'train_and_test', run)
    ways = ['frames_stts', 'frames_random']
    with pytest.raises(module.StepFailed):
        tool.compare([1], ways)
    assert json.loads((tool.runs / 'results.json').read_text())['frames_stts'] == {
        '1': 0.6}
    runs.clear()
    monkeypatch.setattr(module.Comparison, 'train_and_test',
                        lambda self, name, seed: runs.append((name, seed)) or 0.25)
    results = tool.compare([1, 2], ways)
    assert runs == [('frames_random', 1), ('dense', 2), ('frames_stts', 2),
                    ('frames_random', 2)]
    lines = tool.table(results, [1, 2]).splitlines()
    assert lines[2].startswith('| dense |')
    assert lines[2].endswith('| 0.425 | 0.600 | 0.250 |')
    assert len(lines) == 5  # ways without a result have no row


def test_training_starts_from_the_dense_model_of_the_same_seed(module, tool, repo_dir,
                                                               monkeypatch):
    commands = []

    def run(command, log, title, epochs=0):
        commands.append(command)
        return 'Epoch(test) [4/4] acc/top1: 0.7500'

    monkeypatch.setattr(module, 'run', run)
    assert tool.train_and_test('frames_uniform', 3) == 0.75
    train, test = (' '.join(command) for command in commands)
    dense = Config.fromfile(repo_dir / 'configs/demo/mvit_dense.py')
    dense = dense.train_cfg.max_epochs
    assert '--seed 3' in train and f'seed_3/dense/epoch_{dense}.pth' in train
    assert 'mvit_frames_uniform.py' in test
