# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""The comparison of reducers without training: its models, accuracies and results."""
import importlib
import json

import pytest
import torch
from mmaction.structures import ActionDataSample
from mmengine.registry import DefaultScope

TESTS = 9 * 3 - 1  # of the ViT: with the keyframe spared a quarter is impossible


@pytest.fixture
def tool(repo_dir, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(repo_dir / 'tools'))
    tool = importlib.import_module('compare_off_the_shelf')
    monkeypatch.setattr(tool, 'RUNS', tmp_path)
    with DefaultScope.overwrite_default_scope('mmaction'):
        yield tool


@pytest.mark.parametrize('name', ['vit', 'mvit', 'mvit_class_token'])
def test_a_reducer_keeps_its_share_and_the_weights(tool, name):
    host, clip = tool.HOSTS[name], torch.zeros(1, 1, 3, 16, 64, 64)
    dense = tool.build_model(host.config()).state_dict()
    after, tokens = (3, 256) if name == 'vit' else (1, 512)
    for way, keep in tool.tests_of(name, list(tool.KEEPS)):
        model = tool.build_model(host.config(way, keep)).eval()
        assert set(model.state_dict()) == set(dense)
        counts = []
        model.backbone.blocks[after].register_forward_pre_hook(
            lambda block, args, counts=counts: counts.append(args[0].shape[1]))
        with torch.inference_mode():
            model(clip, mode='tensor')
        assert counts == [tokens * keep + (name == 'mvit_class_token')], (way, keep)


def test_accuracy_is_the_share_of_right_answers(tool, tmp_path):
    config = tool.HOSTS['vit'].config('merging in frames (ToMe)', 0.5)
    model = tool.build_model(config).eval()
    clips = torch.randint(0, 256, (5, 1, 3, 16, 64, 64), dtype=torch.uint8)
    batches = [dict(inputs=list(part), data_samples=[
        ActionDataSample().set_gt_label(0) for _ in part]) for part in clips.split(3)]
    with torch.no_grad():
        guesses = [int(sample.pred_score.argmax()) for batch in batches
                   for sample in model.test_step(batch)]
    labels = [guess if i < 3 else (guess + 1) % 8 for i, guess in enumerate(guesses)]
    for sample, label in zip(sum((batch['data_samples'] for batch in batches), []),
                             labels, strict=True):
        sample.set_gt_label(label)
    torch.save(model.state_dict(), tmp_path / 'weights.pth')
    assert tool.accuracy(config, str(tmp_path / 'weights.pth'), batches,
                         draws=2) == pytest.approx(0.6)
    torch.save({'cls_head.fc_cls.bias': torch.zeros(8)}, tmp_path / 'other.pth')
    with pytest.raises(tool.ConfigError, match='other.pth does not fit'):
        tool.accuracy(config, str(tmp_path / 'other.pth'), batches)


def test_results_are_kept_and_not_made_again(tool, tmp_path, monkeypatch):
    runs = []

    def accuracy(config, checkpoint, batches, draws):
        if len(runs) == 20:
            raise tool.StepFailed('interrupted')
        runs.append((config.model.backbone.reducers[0].type, draws))
        return 0.5

    monkeypatch.setattr(tool.Comparison, 'compare', lambda self, seeds, ways: {
        ways[0]: {str(seed): 0.75 for seed in seeds}})
    monkeypatch.setattr(tool.Runner, 'build_dataloader', lambda loader: [])
    monkeypatch.setattr(tool, 'accuracy', accuracy)
    keeps = list(tool.KEEPS)
    with pytest.raises(tool.StepFailed):
        tool.compare(['vit'], [0], keeps)
    kept = json.loads((tmp_path / 'off_the_shelf.json').read_text())
    assert len(kept) == 1 + 20
    assert set(runs) == {('TemporalSelection', 1), ('TemporalSelection', 3),
                         ('SpatialSelection', 3), ('TokenMerging', 1),
                         ('KeyframePruning', 1)}
    del runs[:]
    results = tool.compare(['vit'], [0], keeps)
    assert len(runs) == TESTS - 20 and len(results) == 1 + TESTS
    monkeypatch.setattr(tool, 'gflops', lambda config: 0.1)
    lines = tool.table('vit', results, [0], keeps).splitlines()
    assert lines[2] == '| dense | 0.750 (0.1000) | | |'
    assert lines[-2].endswith('spared | 0.500 (0.1000) | 0.500 (0.1000) | - |')
    assert len(lines) == 3 + 9
