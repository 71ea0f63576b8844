# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Tests of `make` and of tools/dev/setup_env, in a copy of the files they need.

A `.venv/bin/python` that only pretends to install lets the set-up run to its end in a
second; a sitecustomize module tells it of the disk and the headers that a test wants
it to find.
"""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
needs_make = pytest.mark.skipif(not shutil.which('make'), reason='make is missing')

SITECUSTOMIZE = """
import os, shutil, sysconfig
from collections import namedtuple
usage = namedtuple('usage', 'total used free')
free = int(float(os.environ['FAKE_FREE_GIB']) * 2**30)
shutil.disk_usage = lambda path: usage(free, 0, free)
get_path = sysconfig.get_path
include = os.environ['FAKE_INCLUDE']
sysconfig.get_path = lambda n, *a, **k: include if n == 'include' else get_path(n)
"""

# Stands in for .venv/bin/python: `pip install` does what the file behaviour says.
PYTHON_STUB = """#!/bin/sh
case "$*" in
*"-m pip --version"* | *"import mmcv.ops"*) exit 0 ;;
*"-m pip "*) printf '%s\\n' "$*" >>{root}/calls; . {root}/behaviour ;;
*) exec {python} "$@" ;;
esac
"""
# What the stub does when it is asked for mmcv.
MMCV_APPEARS = """case "$*" in
*mmcv==*)
    {first}
    mkdir -p {site}/mmcv-2.1.0.dist-info
    touch {site}/mmcv-2.1.0.dist-info/INSTALLER ;;
esac
"""


def load_script() -> ModuleType:
    """tools/dev/setup_env.py as a module."""
    path = ROOT / 'tools' / 'dev' / 'setup_env.py'
    spec = importlib.util.spec_from_file_location('setup_env', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_script(path: Path, text: str) -> Path:
    """Writes an executable file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout of the set-up's files alone, without `.venv`."""
    root = tmp_path / 'checkout'
    for name in ('setup.cfg', 'pyproject.toml', 'Makefile', 'LICENSE'):
        root.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, root)
    shutil.copytree(ROOT / 'requirements', root / 'requirements')
    shutil.copytree(
        ROOT / 'tools' / 'dev',
        root / 'tools' / 'dev',
        ignore=shutil.ignore_patterns('__pycache__'),
    )
    return root


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """An environment in which no check of the set-up fails."""
    (tmp_path / 'site').mkdir()
    (tmp_path / 'site' / 'sitecustomize.py').write_text(SITECUSTOMIZE)
    (tmp_path / 'include').mkdir()
    (tmp_path / 'include' / 'Python.h').touch()
    drop = ('TORCH', 'MAX_JOBS', 'MAKEFLAGS', 'MAKELEVEL')
    return {k: v for k, v in os.environ.items() if k not in drop} | {
        'PYTHON': sys.executable,
        'PYTHONPATH': str(tmp_path / 'site'),
        'CXX': 'true',
        'FAKE_FREE_GIB': '100',
        'FAKE_INCLUDE': str(tmp_path / 'include'),
    }


def stub_venv(tree: Path, behaviour: str) -> None:
    """Puts the pretending Python into `.venv`."""
    stub = PYTHON_STUB.format(root=tree, python=sys.executable)
    write_script(tree / '.venv' / 'bin' / 'python', stub)
    (tree / 'behaviour').write_text(behaviour)


def set_up(tree: Path, env: dict[str, str], *args: str) -> subprocess.CompletedProcess:
    """Runs the set-up script of that tree."""
    return subprocess.run(
        ['/bin/sh', 'tools/dev/setup_env.sh', *args],
        cwd=tree,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )


def make(
    tree: Path, *args: str, env: dict | None = None
) -> subprocess.CompletedProcess:
    """Runs make there, unaware of a make that runs these tests."""
    outer = ('MAKEFLAGS', 'MAKELEVEL', 'MFLAGS', 'PYTHON', 'TORCH', 'ARGS')
    base = os.environ if env is None else env
    clean = {k: v for k, v in base.items() if k not in outer}
    return subprocess.run(
        ['make', *args], cwd=tree, env=clean, capture_output=True, text=True, timeout=60
    )


# What stops the set-up


def obstacles(tmp_path: Path) -> dict[str, tuple[dict[str, str], str]]:
    """What each case changes in the environment, and what its line must say."""
    old = write_script(tmp_path / 'old', '#!/bin/sh\necho 3.9.18\n')
    write_script(tmp_path / 'other' / 'python3', '#!/bin/sh\necho 3.12.1\n')
    no_pip = tmp_path / 'no_pip'
    no_pip.mkdir()
    (no_pip / 'ensurepip.py').write_text('raise ImportError("no ensurepip here")\n')
    site = f'{no_pip}{os.pathsep}{tmp_path / "site"}'
    return {
        'old python': ({'PYTHON': str(old)}, f'PYTHON={old} is Python 3.9.18, 3.11'),
        'not a python': ({'PYTHON': 'no-such'}, 'PYTHON=no-such does not run'),
        'other python': (
            {'PYTHON': '', 'PATH': str(tmp_path / 'other')},
            'no Python 3.11 found (python3 is 3.12.1); install it, or name one: make '
            'install PYTHON=',
        ),
        'no python': ({'PYTHON': '', 'PATH': ''}, '(no python at all)'),
        'no venv': ({'PYTHONPATH': site}, 'cannot make environments (no ensurepip'),
        'no compiler': ({'CXX': 'no-such-c++'}, 'no C++ compiler (no-such-c++)'),
        'no compiler found': ({'CXX': '', 'PATH': ''}, '(c++, g++, clang++)'),
        'broken compiler': ({'CXX': 'false'}, 'false cannot build a C++17'),
        'no headers': ({'FAKE_INCLUDE': '/no/such'}, '/no/such/Python.h is missing'),
        'full disk': ({'FAKE_FREE_GIB': '0.5'}, 'has 0.5 GiB free, '),
    }


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason='set-up needs Python 3.11')
class TestSetUp:
    """The set-up script, in a tree of its own."""

    @pytest.mark.parametrize(
        'case',
        [
            'old python',
            'not a python',
            'other python',
            'no python',
            'no venv',
            'no compiler',
            'no compiler found',
            'broken compiler',
            'no headers',
            'full disk',
        ],
    )
    def test_obstacle_gets_one_line(self, tree, env, tmp_path, case) -> None:
        change, line = obstacles(tmp_path)[case]
        run = set_up(tree, env | change)
        assert (run.returncode, run.stdout) == (1, '')
        assert run.stderr.startswith('setup: ') and run.stderr.count('\n') == 1
        assert line in run.stderr
        assert not (tree / '.venv').exists()

    def test_no_obstacle(self, tree, env) -> None:
        run = set_up(tree, env, '--check')
        assert (run.returncode, run.stderr) == (0, '')
        assert not (tree / '.venv').exists()

    def test_venv_of_another_python(self, tree, env) -> None:
        write_script(tree / '.venv' / 'bin' / 'python', '#!/bin/sh\necho 3.12\n')
        run = set_up(tree, env)
        assert run.returncode == 1
        assert '.venv holds Python 3.12, not 3.11: make distclean' in run.stderr

    @needs_make
    def test_make_passes_the_line_on(self, tree, env) -> None:
        run = make(tree, 'install', 'PYTHON=no-such', env=env)
        assert run.returncode == 2
        assert run.stderr.startswith('setup: PYTHON=no-such does not run')

    def test_goes_through_and_leaves_the_stamp(self, tree, env) -> None:
        site = tree / '.venv' / 'lib' / 'python3.11' / 'site-packages'
        cut_short = site / 'half-1.0.dist-info'
        cut_short.mkdir(parents=True)
        stub_venv(tree, MMCV_APPEARS.format(first=':', site=site))
        run = set_up(tree, env | {'TORCH': '--no-index ./torch.whl'})
        assert run.returncode == 0, run.stderr
        stamp = (tree / '.venv' / 'installed').read_text().splitlines()
        assert stamp == [str(tree), '--no-index ./torch.whl']
        assert not cut_short.exists()
        calls = (tree / 'calls').read_text().splitlines()
        assert all(' --no-input ' in call for call in calls)
        steps = [call.partition('--progress-bar off ')[2] for call in calls]
        assert 'setuptools==80' in steps[0]
        assert steps[1] == '--no-index ./torch.whl'
        assert 'mmaction2==1.2.0' in steps[2]
        assert 'torch==' not in steps[2] and 'mmcv==' not in steps[2]
        assert steps[3] == '--no-build-isolation mmcv==2.1.0'
        assert steps[4] == '--no-build-isolation --no-deps -e .'
        # Again: mmcv is in place and not asked for.
        assert set_up(tree, env).returncode == 0
        calls = (tree / 'calls').read_text().splitlines()[len(calls) :]
        assert not any('mmcv==' in call for call in calls)

    def test_compilation_is_announced(self, tree, env) -> None:
        site = tree / '.venv' / 'lib' / 'python3.11' / 'site-packages'
        says = 'echo "Building wheel for mmcv (setup.py): started"; sleep 1.5'
        stub_venv(tree, MMCV_APPEARS.format(first=says, site=site))
        run = set_up(tree, env)
        assert run.returncode == 0, run.stderr
        assert run.stdout.count('mmcv is being compiled: about 12 minutes') == 1

    def test_failure_shows_the_log_and_leaves_no_stamp(self, tree, env) -> None:
        stub_venv(tree, 'echo "a.cpp: fatal error: No space left on device"; exit 3')
        run = set_up(tree, env)
        assert run.returncode == 1
        lines = run.stderr.splitlines()
        assert lines[0].strip() == 'a.cpp: fatal error: No space left on device'
        assert 'pip failed at build tools (status 3): the disk is full' in lines[-1]
        assert str(tree / '.venv' / 'install.log') in lines[-1]
        assert not (tree / '.venv' / 'installed').exists()

    def test_interruption_ends_pip_and_leaves_no_stamp(self, tree, env) -> None:
        stub_venv(tree, f'echo $$ >{tree}/pid; exec sleep 60')
        process = subprocess.Popen(
            ['/bin/sh', 'tools/dev/setup_env.sh'],
            cwd=tree,
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        until = time.monotonic() + 20
        pid_file = tree / 'pid'
        while not (pid_file.exists() and pid_file.read_text().strip()):
            assert time.monotonic() < until, 'pip was not started'
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert 'interrupted; run it again' in process.communicate(timeout=20)[1]
        assert process.returncode == 130
        assert not (tree / '.venv' / 'installed').exists()
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid_file.read_text()), 0)

    def test_interruption_while_pip_starts_ends_it(self, tree, monkeypatch) -> None:
        script = load_script()
        monkeypatch.setattr(script, 'LOG', tree / 'log')
        monkeypatch.setattr(script, 'ROOT', tree)
        script.LOG.touch()
        started = []

        class Interrupted(subprocess.Popen):  # before whoever starts it knows it
            def __init__(self, command: list, **kwargs: object) -> None:
                super().__init__(['sleep', '60'], **kwargs)
                started.append(self)
                signal.raise_signal(signal.SIGTERM)

        monkeypatch.setattr(script.subprocess, 'Popen', Interrupted)
        before = signal.signal(signal.SIGTERM, script.interrupt)
        try:
            with pytest.raises(KeyboardInterrupt):
                script.try_pip('torch', 'torch')
            assert signal.getsignal(signal.SIGTERM) is script.interrupt
        finally:
            signal.signal(signal.SIGTERM, before)
            monkeypatch.undo()
        ended = started[0].poll()
        started[0].kill()
        assert ended == -signal.SIGINT


def test_position_in_the_log(tmp_path: Path, monkeypatch) -> None:
    script = load_script()
    monkeypatch.setattr(script, 'LOG', tmp_path / 'log')
    script.LOG.write_text('[70/70] of an earlier step\n')
    log = script.PipLog()
    with script.LOG.open('a') as sink:
        sink.write('Collecting mmcv\n')
    log.read()
    assert log.position() == 'Collecting mmcv' and not log.compiles('mmcv')
    with script.LOG.open('a') as sink:
        sink.write('  Building wheel for mmcv (setup.py): started\n')
        sink.write('  [8/77] c++ a.cpp\n  [9/77] c++ b.cpp\nwarning: noise\n')
    log.read()
    assert log.position() == '9 of 77 files compiled' and log.compiles('mmcv')


# make


@needs_make
def test_make_targets(tree: Path) -> None:
    wanted = {
        'help': 'make install',
        'install': 'setup_env.sh',
        'demo': '.venv/bin/python tools/run_demo.py',
        'test': '.venv/bin/python -m pytest -q',
        'lint': '.venv/bin/python -m ruff check',
        'clean': 'rm -rf build',
        'distclean': 'rm -rf .venv',
    }
    for target, command in wanted.items():
        run = make(tree, '-n', target)
        assert run.returncode == 0, run.stderr
        assert command in run.stdout
        installs = 'setup_env.sh' in run.stdout
        assert installs == (target in ('install', 'demo', 'test', 'lint'))


@needs_make
def test_make_sets_up_again_only_where_needed(tree: Path, tmp_path: Path) -> None:
    def installs(*args: str, where: Path = tree) -> bool:
        run = make(where, '-n', 'install', *args)
        assert run.returncode == 0, run.stderr
        return 'setup_env.sh' in run.stdout

    write_script(tree / '.venv' / 'bin' / 'python', '#!/bin/sh\n')
    assert installs()
    stamp = tree / '.venv' / 'installed'
    stamp.write_text(f'{tree.resolve()}\ntorch==2.13.0\n')
    assert not installs()
    assert installs('TORCH=torch==2.12.0') and installs('PYTHON=python3')
    later = stamp.stat().st_mtime + 5
    os.utime(tree / 'requirements' / 'tested.txt', (later, later))
    assert installs()
    os.utime(stamp, (later, later))
    assert not installs()
    moved = tree.rename(tmp_path / 'moved')
    assert installs(where=moved)


@needs_make
def test_make_clean_keeps_what_cost_time(tree: Path) -> None:
    kept = ['.venv/lib/__pycache__/a.pyc', 'data/a.mp4', 'work_dirs/mine/a.pth']
    gone = ['build/a', 'x/__pycache__/a.pyc', '.ruff_cache/a', 'work_dirs/demo/a']
    for name in kept + gone:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).touch()
    assert make(tree, 'clean').returncode == 0
    assert [name for name in kept + gone if (tree / name).exists()] == kept
