# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What the comparisons on the demo's data share: what they run, keep and print."""
import importlib
import json
from pathlib import Path

import pytest
from mmengine.registry import DefaultScope

SCRATCH = dict(dense='all tokens', frames_random='random frames')


@pytest.fixture
def module(repo_dir, tmp_path, monkeypatch):
    """tools/_compare.py, whose paths lead to a folder of the test."""
    monkeypatch.syspath_prepend(str(repo_dir / 'tools'))
    module = importlib.import_module('_compare')
    monkeypatch.setattr(module.Comparison, 'runs', tmp_path / 'runs')
    with DefaultScope.overwrite_default_scope('mmaction'):
        yield module


def comparison(module, **changes):
    arguments = dict(tool='compare_it.py', about='Compares.', ways=SCRATCH,
                     prefix='mvit', heading='way')
    return module.Comparison(**{**arguments, **changes})


def test_runs_lie_in_a_folder_of_the_tools_own_name(repo_dir, monkeypatch):
    monkeypatch.syspath_prepend(str(repo_dir / 'tools'))
    made = comparison(importlib.import_module('_compare'))
    assert made.runs == Path('work_dirs/compare_it')
    assert made.config_file('dense') == Path('configs/demo/mvit_dense.py')


@pytest.mark.parametrize('parent', ['frames_random', 'no_way'])
def test_a_parent_must_be_the_first_way(module, parent):
    with pytest.raises(ValueError, match=f'compare_it.py: parent={parent!r}: must be '
                                         "the first of the ways, 'dense'"):
        comparison(module, parent=parent)


@pytest.mark.parametrize('parent', [None, 'dense'])
def test_a_way_starts_from_the_parent_of_its_seed_or_from_scratch(module, monkeypatch,
                                                                  parent):
    commands = []

    def run(command, log, title, epochs=0):
        commands.append((' '.join(command), epochs))
        return 'Epoch(test) [4/4] acc/top1: 0.7500'

    monkeypatch.setattr(module, 'run', run)
    made = comparison(module, parent=parent)
    assert made.train_and_test('frames_random', 3) == 0.75
    (train, epochs), (test, none) = commands
    assert '--seed 3' in train and 'mvit_frames_random.py' in train
    assert (epochs, none) == (made.config('frames_random').train_cfg.max_epochs, 0)
    wanted = made.last_checkpoint('dense', 3)
    assert wanted.parts[-3:-1] == ('seed_3', 'dense')
    assert (f'load_from={wanted}' in train) is (parent is not None)
    assert str(made.last_checkpoint('frames_random', 3)) in test
    commands.clear()
    made.train_and_test('dense', 3)
    assert 'load_from' not in commands[0][0]


def test_a_trained_model_is_only_tested(module, monkeypatch):
    made = comparison(module)
    there = made.last_checkpoint('dense', 0)
    there.parent.mkdir(parents=True)
    there.touch()
    commands = []
    monkeypatch.setattr(module, 'run', lambda command, *args: commands.append(
        command[0]) or 'Epoch(test) [4/4] acc/top1: 0.1250')
    assert made.train_and_test('dense', 0) == 0.125
    assert commands == ['tools/test.py']


@pytest.mark.parametrize(('parent', 'runs'), [
    (None, [('frames_random', 5)]),
    ('dense', [('dense', 5), ('frames_random', 5)]),
])
def test_only_the_parent_is_run_unasked(module, monkeypatch, parent, runs):
    made, seen = comparison(module, parent=parent), []
    monkeypatch.setattr(module.Comparison, 'train_and_test',
                        lambda self, name, seed: seen.append((name, seed)) or 0.5)
    made.compare([5], ['frames_random'])
    assert seen == runs
    kept = json.loads((made.runs / 'results.json').read_text())
    assert {(name, 5) for name, scores in kept.items() if scores == {'5': 0.5}} == {
        *runs}


@pytest.mark.parametrize(('line', 'score'), [
    ('Epoch(test) [4/4]    acc/top1: 0.7500  acc/top5: 1.0000  time: 0.1', 0.75),
    ('Epoch(test) [12/12]    mAP/overall: 0.6464  mAP/person_movement: 0.1', 0.6464),
])
def test_scores_of_both_kinds_of_task_are_read(module, monkeypatch, line, score):
    monkeypatch.setattr(module, 'run', lambda *args: f'loading\n{line}\n')
    assert comparison(module).train_and_test('dense', 0) == score


def test_a_bar_shows_the_iterations_of_all_epochs(module, monkeypatch, tmp_path,
                                                  capfd):
    script = tmp_path / 'train.py'
    script.write_text('''
print("Epoch(train)  [3][20/48]  lr: 1e-4  grad_norm: 2.0  loss: 1.5192")
print("Epoch(val) [3][12/12]    mAP/overall: 0.5000  data_time: 0.1")
''')
    demo = importlib.import_module('run_demo')
    demo.run([str(script)], tmp_path / 'log.txt', 'training', epochs=12)
    error = capfd.readouterr().err
    assert '116/576' in error and 'loss=1.5192' in error


def test_the_data_and_the_metric_of_a_comparison(module, monkeypatch, capsys):
    made, calls = comparison(module, data='moving_actors', metric='mAP/overall'), []
    monkeypatch.setattr(module.subprocess, 'run',
                        lambda command, **kwargs: calls.append(command[1:]))
    monkeypatch.setattr(module.Comparison, 'train_and_test', lambda *args: 0.5)
    monkeypatch.setattr(module.Comparison, 'gflops', lambda self, name: 1.0)
    made.main(['--seeds', '1'])
    assert calls == [['tools/data/make_moving_actors.py', 'data/moving_actors']]
    assert 'mean frame mAP' in capsys.readouterr().out


def test_the_command(module, monkeypatch, capsys):
    """Data first; a step that fails is told in one line, without a traceback."""
    made, calls = comparison(module), []
    monkeypatch.setattr(module.subprocess, 'run',
                        lambda command, **kwargs: calls.append(command[1]))

    def fail(self, name, seed):
        calls.append((name, seed))
        if seed == 2:
            raise module.StepFailed('train.py ended with status 1')
        return 0.25

    monkeypatch.setattr(module.Comparison, 'train_and_test', fail)
    monkeypatch.setattr(module.Comparison, 'gflops', lambda self, name: 1.5)
    made.main(['--seeds', '1', '--ways', 'frames_random'])
    assert calls == ['tools/data/make_moving_shapes.py', ('frames_random', 1)]
    assert capsys.readouterr().out.splitlines() == [
        '| way | GFLOPs | mean top-1 | seed 1 |', '| --- | --- | --- | --- |',
        '| random frames | 1.5000 | 0.250 | 0.250 |']
    with pytest.raises(SystemExit):
        made.main(['--seeds', '2'])
    error = capsys.readouterr().err
    assert 'train.py ended with status 1' in error and 'Traceback' not in error
    with pytest.raises(SystemExit):
        made.main(['--ways', 'all'])
    assert "invalid choice: 'all'" in capsys.readouterr().err
