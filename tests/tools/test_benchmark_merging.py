# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""The benchmark of token merging runs, and compares like with like."""
import json
import runpy
from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

from mmaction_tokenreduce.ops import orthogonal_select


@pytest.fixture
def tool(repo_dir, monkeypatch):
    monkeypatch.syspath_prepend(str(repo_dir / 'tools'))
    path = repo_dir / 'tools' / 'benchmark_merging.py'
    return SimpleNamespace(**runpy.run_path(str(path)))


def test_both_selections_pick_the_same(tool):
    x, first = torch.randn(2, 60, 64), torch.tensor([3, 9])
    assert_close(tool.paper_select(x, 40, first), orthogonal_select(x, 40, first))


def test_it_runs(tool, capsys):
    tool.main(['--channels', '64', '--turns', '1', '--json'])
    result = json.loads(capsys.readouterr().out)
    for scope in ('frame', 'clip'):
        assert set(result[scope]) == set(tool.FORMS)
        assert min(result[scope].values()) > 0
    tool.main(['--channels', '64', '--turns', '1'])
    lines = capsys.readouterr().out.splitlines()
    assert 'frame 8x196' in lines[1] and 'clip 1x784' in lines[1]
    assert lines[2].startswith("select, paper's loop") and len(lines) == 6


@pytest.mark.parametrize('options,message', [
    (['--turns', '0'], '--turns takes numbers of at least 1'),
    (['--channels', '100'], '--channels takes multiples of 64'),
])
def test_mistakes(tool, capsys, options, message):
    with pytest.raises(SystemExit) as stop:
        tool.main(options)
    assert stop.value.code == 2 and message in capsys.readouterr().err
