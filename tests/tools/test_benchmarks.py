# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""The benchmarks run, and their figures hang together."""
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
