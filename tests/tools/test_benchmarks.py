# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""The benchmarks run, and their figures hang together."""
import importlib
import json
import runpy
from types import SimpleNamespace

import pytest
from torch.testing import assert_close


@pytest.fixture
def tool(repo_dir, monkeypatch):
    monkeypatch.syspath_prepend(str(repo_dir / 'tools'))

    def load(name):
        return SimpleNamespace(**runpy.run_path(str(repo_dir / 'tools' / name)))

    return load


@pytest.fixture
def training(repo_dir, monkeypatch):
    """tools/benchmark_training.py, whose functions other processes import."""
    monkeypatch.syspath_prepend(str(repo_dir / 'tools'))
    return importlib.import_module('benchmark_training')


def test_models_in_turns(tool, repo_dir, capsys):
    configs = [str(repo_dir / f'configs/demo/mvit_{name}.py')
               for name in ('dense', 'stts')]
    tool('benchmark.py').main([*configs, '--turns', '3', '--json'])
    result = json.loads(capsys.readouterr().out)
    dense, stts = result['models']['mvit_dense'], result['models']['mvit_stts']
    assert dense['times_as_fast'] == 1 and dense['selector_share'] == 0
    assert 0 < stts['selector_share'] < 1 and stts['ms'] > 0
    assert stts['gflops_promise'] == pytest.approx(dense['gflops'] / stts['gflops'])
    tool('benchmark.py').main([*configs, '--turns', '1'])
    assert 'times as fast' in capsys.readouterr().out


def test_parts_of_a_detector(tool, repo_dir, capsys):
    configs = [str(repo_dir / 'configs/demo/evad_moving_actors.py'),
               str(repo_dir / 'configs/demo/mvit_dense.py')]
    tool('benchmark.py').main([configs[0], '--turns', '2', '--json'])
    row = json.loads(capsys.readouterr().out)['models']['evad_moving_actors']
    assert set(row['part_shares']) == {'encoder', 'localiser', 'decoder'}
    assert all(share > 0.02 for share in row['part_shares'].values())
    assert 0.9 < sum(row['part_shares'].values()) < 1.1
    assert 0 < row['selector_share'] < row['part_shares']['encoder']
    tool('benchmark.py').main([configs[0], '--turns', '1'])
    assert 'localiser' in capsys.readouterr().out
    tool('benchmark.py').main([configs[1], '--turns', '1'])
    assert 'localiser' not in capsys.readouterr().out


def test_training_of_detectors(training, repo_dir, capsys):
    config = str(repo_dir / 'configs/demo/evad_moving_actors.py')
    options = ['--turns', '2', '--actors', '2', '--shape', '3', '8', '64', '64']
    training.main([config, *options, '--json'])
    result = json.loads(capsys.readouterr().out)
    row = result['models']['evad_moving_actors']
    assert row['seconds'] > 0 and row['share_of_time'] == 1
    assert row['mb'] > 1 and row['share_of_memory'] == 1
    assert 'share of memory' in training.as_table(result)


@pytest.mark.parametrize('options,message', [
    (['{dense}'], 'only EVAD is trained here'),
    (['{evad}', '--batch', '0'], '--batch, --turns and --actors take numbers of at '
     'least 1'),
    (['{evad}', '--shape', '3', '8', '0', '64'], '--shape takes sizes of at least 1')])
def test_mistakes_of_the_training_benchmark(training, repo_dir, capsys, options,
                                            message):
    paths = {key: str(repo_dir / f'configs/demo/{name}.py') for key, name in
             dict(dense='mvit_dense', evad='evad_moving_actors').items()}
    with pytest.raises(SystemExit) as stop:
        training.main([word.format(**paths) for word in options])
    assert stop.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize('options,message', [
    (['nothing.py'], 'nothing.py not found'),
    (['{dense}', '{dense}'], 'two configs of the same name'),
    (['{dense}', '--shape', '3', '0', '64', '64'], '--shape takes sizes of at least 1'),
    (['{dense}', '--turns', '0'], '--turns and --batch take numbers of at least 1'),
])
def test_mistakes(tool, repo_dir, capsys, options, message):
    dense = str(repo_dir / 'configs/demo/mvit_dense.py')
    with pytest.raises(SystemExit) as stop:
        tool('benchmark.py').main([word.format(dense=dense) for word in options])
    assert stop.value.code == 2 and message in capsys.readouterr().err


def test_topk_forms_agree(tool):
    module = tool('benchmark_topk.py')
    case = module.make_case(SimpleNamespace(batch=2, length=20, k=8, samples=50))
    grads = [module.run(form, *case) for form in module.FORMS]
    assert_close(grads[0], grads[1], rtol=1e-3, atol=1e-4)
    assert module.peak_resident_kib() > 1000


def test_forms_of_roi_align_agree(tool):
    module = tool('benchmark_roi_align.py')
    for part in module.FORMS:
        result = module.measure(part, 64, 1, count=8)  # compares them
        assert set(result) == set(module.FORMS[part])
        assert all(row['both'] > 0 for row in result.values())
