# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""tools/doctor.py: what it says of a whole environment, and of broken ones."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / 'tools/doctor.py'


@pytest.fixture
def doctor(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / 'tools'))
    import doctor
    return doctor


def run(**environment):
    """Status and lines of the tool in a process of its own."""
    done = subprocess.run([sys.executable, str(TOOL)], capture_output=True, text=True,
                          env={**os.environ, 'OMP_NUM_THREADS': '1', **environment},
                          check=False, timeout=600)
    assert done.stderr == ''
    lines = done.stdout.splitlines()
    assert len(lines) <= 40 and max(map(len, lines)) <= 88
    return done.returncode, lines


def row(lines, name):
    (line, ) = [line for line in lines if line[:22].strip() == name]
    return line[23:]


def test_the_environment_of_the_tests_is_fine():
    status, lines = run()
    assert row(lines, 'mmcv ops').split() == ['ok', 'compiled;', 'nms', 'is', 'right']
    assert row(lines, 'torch').startswith('ok ')
    assert row(lines, 'plug-in').startswith('ok      registers ')
    assert int(row(lines, 'plug-in').split()[2]) >= 20
    assert '5 of 6 frames decode with motion vectors' in row(lines, 'video')
    assert (status, lines[-1]) == (0, 'Nothing is broken.')


def test_broken_and_crashing_packages(tmp_path):
    """Fakes hide the real ones: torch raises, mmcv ends its process, av is too old."""
    for name, text in dict(
            torch="raise ImportError('libc10.so: cannot open shared object file')",
            mmcv='import os\nos._exit(11)', av="__version__ = '9.2.0'",
            mmengine="raise ModuleNotFoundError('No module named addict', "
                     "name='addict')", mmdet='import mmcv', mmaction='import torch',
            cv2="import sys\nsys.exit('no display')", fvcore='1 / 0',
            onnx='raise OSError', onnxruntime='', onnxscript='', triton='').items():
        (tmp_path / name).mkdir()
        (tmp_path / name / '__init__.py').write_text(text + '\n')
    status, lines = run(PYTHONPATH=str(tmp_path), OMP_NUM_THREADS='4096')
    assert status == 1
    assert 'BROKEN' in row(lines, 'torch')
    assert 'ImportError: libc10.so: cannot open shared' in row(lines, 'torch')
    assert 'the process crashed (exit 11)' in row(lines, 'mmcv')
    assert 'the process crashed (exit 11)' in row(lines, 'mmdet')
    assert 'BROKEN  9.2.0 is outside of av>=12.0' in row(lines, 'av')
    assert 'No module named addict' in row(lines, 'mmengine')
    assert 'SystemExit: no display' in row(lines, 'opencv-contrib-python')
    assert 'ZeroDivisionError' in row(lines, 'fvcore')
    assert row(lines, 'numpy').startswith('ok ')  # tried after the crash
    assert 'BROKEN' in row(lines, 'plug-in') and 'BROKEN' in row(lines, 'mmcv ops')
    assert 'OMP_NUM_THREADS=4096' in row(lines, 'threads')
    end = ' '.join(line.rstrip('\\').strip() for line in lines[-12:])
    end = ' '.join(end.split())
    assert 'pip install "torch>=2.6"' in end and '"av>=12.0"' in end
    assert end.index('"torch>=2.6"') < end.index('--no-build-isolation')


def test_missing_packages(doctor):
    missing = doctor.Outcome(False, "ModuleNotFoundError: No module named 'x'", 'x')
    assert doctor.package_row('x', 'no-such-x', 'EVAD', missing, 'no-such-x>=1', ''
                              ) == ('no-such-x', 'note',
                                    'not installed; needed for EVAD only', '')
    assert doctor.package_row('x', 'no-such-x', None, missing, 'no-such-x>=1', '') == (
        'no-such-x', 'BROKEN', 'not installed', 'pip install "no-such-x>=1"')
    # setuptools 81 and later are there, their pkg_resources is not
    state = doctor.package_row('x', 'setuptools', None, missing, 'setuptools<81', '')
    assert state.state == 'BROKEN' and 'No module named' in state.seen
    assert state.fix == 'pip install "setuptools<81"'
    assert doctor.probe_row('device', missing, ['x']).state == 'note'
    assert doctor.probe_row('device', missing, ['y']).state == 'BROKEN'


def test_everything_missing_fits_the_screen(doctor, monkeypatch):
    monkeypatch.setattr(doctor, 'distribution_version', lambda name: '')
    monkeypatch.setattr(doctor, 'try_all', lambda steps: {
        name: doctor.Outcome(False, f"ModuleNotFoundError: No module named '{name}'",
                             name if code is None else 'torch')
        for name, code in steps})
    rows = doctor.examine()
    lines = doctor.report(rows).splitlines()
    assert len(lines) <= 40 and max(map(len, lines)) <= 88
    assert row(lines, 'plug-in') == 'note    not tried, as torch is missing'
    assert row(lines, 'mmdet').startswith('note ')


@pytest.mark.parametrize('requirement, version, allowed', [
    ('mmcv>=2.1,<2.2', '2.1.0', True), ('mmcv>=2.1,<2.2', '2.2.0', False),
    ('mmcv>=2.1,<2.2', '2.0.1', False), ('torch>=2.6', '2.13.0+cpu', True),
    ('setuptools<81', '81.0.0', False), ('setuptools<81', '80.10.2', True),
    ('packaging', '26.3', True), ('a>=1.0', '1', True)])
def test_ranges(doctor, requirement, version, allowed):
    assert doctor.admits(requirement, version) == allowed


def test_ranges_are_those_of_setup_cfg(doctor):
    ranges, pins = doctor.read_ranges(), doctor.read_pins()
    assert ranges['mmcv'] == 'mmcv>=2.1,<2.2'
    assert ranges['setuptools'] == 'setuptools<81'
    for _, name, use in doctor.PACKAGES:
        if use != 'merging on a GPU':
            name = doctor.normalized(name)
            assert name in ranges and doctor.admits(ranges[name], pins[name])


def test_small_shared_memory(doctor, monkeypatch):
    class Usage:
        total = 64 * 2**20

    monkeypatch.setattr(doctor.shutil, 'disk_usage', lambda path: Usage)
    *_, shm = doctor.environment_rows()
    assert shm.state == 'note' and '0.1 GiB' in shm.seen and '--shm-size' in shm.seen
