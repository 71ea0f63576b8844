# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Tests of setup.cfg, the pinned set, the wheel and .ci/run."""

import ast
import configparser
import importlib.metadata
import importlib.util
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PINS_FILE = ROOT / 'requirements' / 'tested.txt'

# Import names that differ from the names on the package index.
DISTRIBUTIONS = {
    'PIL': 'pillow',
    'cv2': 'opencv-contrib-python',
    'mmaction': 'mmaction2',
    'pkg_resources': 'setuptools',
    'yaml': 'pyyaml',
}


def read_setup_cfg() -> configparser.ConfigParser:
    """setup.cfg of the checkout."""
    config = configparser.ConfigParser()
    config.read(ROOT / 'setup.cfg')
    return config


def requirements_of(text: str) -> list[Requirement]:
    """The requirements in one setup.cfg value."""
    return [Requirement(line) for line in text.strip().splitlines()]


def read_pins() -> dict[str, Requirement]:
    """The tested set by normalised package name."""
    lines = [line.partition('#')[0] for line in PINS_FILE.read_text().splitlines()]
    pins = [Requirement(line) for line in lines if line.strip()]
    return {canonicalize_name(pin.name): pin for pin in pins}


@pytest.mark.parametrize('group', ['install_requires', 'det', 'mim', 'export', 'dev'])
def test_ranges_admit_the_pinned_set(group: str) -> None:
    config = read_setup_cfg()
    section = 'options' if group == 'install_requires' else 'options.extras_require'
    pins = read_pins()
    wanted = requirements_of(config[section][group])
    assert wanted
    for requirement in wanted:
        (pin,) = pins[canonicalize_name(requirement.name)].specifier
        assert requirement.specifier.contains(pin.version), (requirement, pin)


def test_every_pin_is_exact() -> None:
    for pin in read_pins().values():
        (specifier,) = pin.specifier
        assert specifier.operator == '==' and '*' not in specifier.version, pin


def test_extras_and_what_a_plain_install_leaves_alone() -> None:
    config = read_setup_cfg()
    extras = config['options.extras_require']
    assert set(extras) == {'det', 'mim', 'export', 'dev'}
    plain = {r.name for r in requirements_of(config['options']['install_requires'])}
    # pip would compile mmcv out of sight of torch, see setup.cfg
    assert 'mmcv' not in plain and 'mmdet' not in plain


def test_mmcv_range_lies_within_the_one_of_mmaction2() -> None:
    (ours,) = requirements_of(read_setup_cfg()['options.extras_require']['mim'])
    declared = importlib.metadata.requires('mmaction2') or []
    (theirs,) = [Requirement(r) for r in declared if r.startswith('mmcv')]
    versions = ['2.0.1', '2.1.0', '2.1.9', '2.2.0', '2.3.0']
    admitted = [v for v in versions if ours.specifier.contains(v)]
    assert admitted == ['2.1.0', '2.1.9']
    assert all(theirs.specifier.contains(v) for v in admitted)


def test_version_is_a_literal() -> None:
    tree = ast.parse((ROOT / 'mmaction_tokenreduce' / '__init__.py').read_text())
    (value,) = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == '__version__'
    ]
    assert isinstance(ast.literal_eval(value), str)
    assert read_setup_cfg()['metadata']['version'] == (
        'attr: mmaction_tokenreduce.__version__'
    )


def imports_of(path: Path) -> set[str]:
    """Top-level names of what a file imports absolutely."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition('.')[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module.partition('.')[0])
    return names


# Comes with the CUDA builds of torch; where it is missing, a slower way is taken.
WITH_TORCH = {'triton'}


def test_every_import_is_declared() -> None:
    config = read_setup_cfg()
    groups = [config['options']['install_requires']]
    groups += config['options.extras_require'].values()
    declared = {canonicalize_name(r.name) for g in groups for r in requirements_of(g)}
    known = {'mmaction_tokenreduce', 'tools', *WITH_TORCH, *sys.stdlib_module_names}
    files = [*ROOT.glob('mmaction_tokenreduce/**/*.py'), *ROOT.glob('tools/**/*.py')]
    assert files
    for path in files:
        siblings = {p.stem for p in path.parent.glob('*.py')}
        for name in imports_of(path) - known - siblings:
            distribution = canonicalize_name(DISTRIBUTIONS.get(name, name))
            assert distribution in declared, f'{path} imports {name}'


def test_installed_versions_are_the_pinned_ones() -> None:
    stamp = ROOT / '.venv' / 'installed'
    if Path(sys.prefix).resolve() != ROOT / '.venv' or not stamp.is_file():
        pytest.skip('this Python is not the environment that `make install` made')
    pins = read_pins()
    asked_torch = stamp.read_text().splitlines()[1]
    if asked_torch != str(pins['torch']):
        del pins['torch']  # TORCH= named another
    for name, pin in pins.items():
        assert pin.specifier.contains(importlib.metadata.version(name)), pin


def test_wheel_holds_the_package_and_nothing_else(tmp_path: Path) -> None:
    if not (importlib.util.find_spec('pip') and importlib.util.find_spec('wheel')):
        pytest.skip('pip or wheel is missing')
    for name in ('setup.cfg', 'pyproject.toml', 'LICENSE'):
        shutil.copy(ROOT / name, tmp_path)
    package = tmp_path / 'mmaction_tokenreduce'
    ignore = shutil.ignore_patterns('__pycache__')
    shutil.copytree(ROOT / 'mmaction_tokenreduce', package, ignore=ignore)
    (tmp_path / 'README.md').write_text('# text\n')
    (tmp_path / 'tests').mkdir()
    (tmp_path / 'tests' / 'test_x.py').touch()
    command = [sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps']
    command += ['--no-build-isolation', '--no-index', '-w', 'out', '.']
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    (wheel,) = (tmp_path / 'out').glob('*.whl')
    names = [n for n in zipfile.ZipFile(wheel).namelist() if '.dist-info/' not in n]
    sources = {p.relative_to(tmp_path).as_posix() for p in package.rglob('*.py')}
    assert set(names) == sources
    code = 'import mmaction_tokenreduce as m; print(m.__file__)'
    run = subprocess.run(
        [sys.executable, '-c', code],
        cwd=tmp_path / 'out',
        env={**os.environ, 'PYTHONPATH': str(wheel)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert str(wheel) in run.stdout


def test_ci_calls_lint_tests_and_commands(tmp_path: Path) -> None:
    script = ROOT / '.ci' / 'run'
    assert script.stat().st_mode & stat.S_IXUSR
    fake_make = tmp_path / 'make'
    fake_make.write_text('#!/bin/sh\necho "in $PWD: make $*"\nexit 7\n')
    fake_make.chmod(0o755)
    path = f'{tmp_path}{os.pathsep}{os.environ["PATH"]}'
    run = subprocess.run(
        ['bash', str(script)],
        cwd=tmp_path,
        env={**os.environ, 'PATH': path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert run.stdout == f'in {ROOT}: make lint test commands\n'
    assert run.returncode == 7
