# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""tools/slurm_*.sh with a fake srun; see test_train_test.py for single options."""
import os
import subprocess
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / 'tools'


@pytest.fixture
def slurm(tmp_path):
    """Runs a script with a srun that prints its arguments, one a line."""
    fake = tmp_path / 'srun'
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    fake.chmod(0o755)

    def run(script, *arguments, path=f'{tmp_path}:{os.environ["PATH"]}', **environment):
        return subprocess.run(['bash', str(TOOLS / script), *arguments],
                              capture_output=True, text=True, check=False,
                              env={**os.environ, 'PATH': path, **environment})

    return run


def options(lines):
    """Values of the options of srun, up to the command."""
    lines = lines[:lines.index('python')]
    return dict(zip(lines[::2], lines[1::2], strict=False))


def test_two_machines(slurm):
    done = slurm('slurm_train.sh', 'gpu', 'job', 'a.py', GPUS='16')
    got = options(done.stdout.splitlines())
    assert (got['--ntasks'], got['--ntasks-per-node'], got['--gres']) == (
        '16', '8', 'gpu:8')
    assert got['--cpus-per-task'] == '5'
    assert '--kill-on-bad-exit=1' in done.stdout


def test_fewer_processes_than_a_machine_has(slurm):
    done = slurm('slurm_test.sh', 'gpu', 'job', 'a.py', 'a.pth', GPUS='2',
                 CPUS_PER_TASK='8')
    got = options(done.stdout.splitlines())
    assert (got['--ntasks'], got['--ntasks-per-node'], got['--gres'],
            got['--cpus-per-task']) == ('2', '2', 'gpu:2', '8')


@pytest.mark.parametrize('name', ['GPUS', 'GPUS_PER_NODE'])
@pytest.mark.parametrize('value', ['many', '0', '-1', 'a[$(touch here)]'])
def test_numbers_that_are_none(slurm, tmp_path, monkeypatch, name, value):
    monkeypatch.chdir(tmp_path)
    ended = slurm('slurm_train.sh', 'gpu', 'job', 'a.py', **{name: value})
    assert (ended.returncode, ended.stdout) == (2, '')
    assert ended.stderr == f"error: {name} must be a number of GPUs, got '{value}'\n"
    assert not (tmp_path / 'here').exists()  # bash arithmetic would run it


def test_without_slurm(slurm, tmp_path):
    (tmp_path / 'srun').unlink()
    (tmp_path / 'bin').mkdir()
    for tool in ('bash', 'dirname'):
        (tmp_path / 'bin' / tool).symlink_to(f'/usr/bin/{tool}')
    ended = slurm('slurm_train.sh', 'gpu', 'job', 'a.py', path=str(tmp_path / 'bin'))
    assert (ended.returncode, ended.stderr) == (
        2, 'error: there is no srun here; without Slurm use tools/dist_train.sh or '
        'tools/dist_test.sh\n')
