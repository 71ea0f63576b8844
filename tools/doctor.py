# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What is installed, what is broken, and what mends it: python tools/doctor.py.

One screen; exit status 1 if something is broken. It works where anything is missing or
broken, torch too: it uses the standard library alone and tries all else in a process
of its own, which is started again after a crash. Ranges are those of setup.cfg, tested
versions those of requirements/tested.txt.
"""
import argparse
import configparser
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 88
TIMEOUT = 300  # seconds for all tries of one process
SMALL_SHM = 1 << 30  # bytes; DataLoader workers hand clips over in /dev/shm
OK, NOTE, BROKEN = 'ok', 'note', 'BROKEN'

MMCV_FIX = ('pip install "setuptools<81" wheel ninja && '
            'pip install --no-build-isolation --no-cache-dir --force-reinstall '
            '--no-deps "mmcv>=2.1,<2.2"')

# Import name, distribution, and for what an optional one is good (None: it is needed).
PACKAGES: tuple[tuple[str, str, str | None], ...] = (
    ('torch', 'torch', None), ('mmcv', 'mmcv', None), ('mmengine', 'mmengine', None),
    ('mmaction', 'mmaction2', None), ('mmdet', 'mmdet', 'EVAD'), ('av', 'av', None),
    ('cv2', 'opencv-contrib-python', None), ('numpy', 'numpy', None),
    ('pkg_resources', 'setuptools', None),
    ('importlib_metadata', 'importlib_metadata', None), ('fvcore', 'fvcore', None),
    ('matplotlib', 'matplotlib', None), ('tqdm', 'tqdm', None),
    ('onnx', 'onnx', 'export'), ('onnxruntime', 'onnxruntime', 'export'),
    ('onnxscript', 'onnxscript', 'export'), ('triton', 'triton', 'merging on a GPU'))

# Tried after the imports; each sets `result`, what to show, or raises.
PROBES = {
    'mmcv ops': '''
import torch
from mmcv.ops import nms
boxes = torch.tensor([[0., 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30]])
kept = nms(boxes, torch.tensor([.9, .8, .7]), 0.5)[1].tolist()
assert kept == [0, 2], f'nms kept {kept}, not [0, 2]'
result = 'compiled; nms is right'
''',
    'video': '''
import io, av, numpy
assert 'libx264' in av.codecs_available, 'this build of PyAV has no libx264 encoder'
file = io.BytesIO()
with av.open(file, 'w', format='mp4') as out:
    stream = out.add_stream('libx264', rate=8)
    stream.width = stream.height = 64
    stream.pix_fmt = 'yuv420p'
    for step in range(6):
        image = numpy.zeros((64, 64, 3), numpy.uint8)
        image[16:32, 8 + 4 * step:24 + 4 * step] = 255
        out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format='rgb24')))
    out.mux(stream.encode())
file.seek(0)
with av.open(file) as clip:
    clip.streams.video[0].codec_context.options = {'flags2': '+export_mvs'}
    found = sum(frame.side_data.get('MOTION_VECTORS') is not None
                for frame in clip.decode(video=0))
assert found, 'the decoder exports no motion vectors'
result = f'libx264 encodes; {found} of 6 frames decode with motion vectors'
''',
    'compat': '''
import importlib.util, os
spec = importlib.util.spec_from_file_location(
    'compat', os.path.join(root, 'mmaction_tokenreduce', 'compat.py'))
compat = importlib.util.module_from_spec(spec)
spec.loader.exec_module(compat)
result = 'mends ' + (', '.join(compat.apply()) or 'nothing here')
''',
    'plug-in': '''
import mmaction, mmaction.registry as registries, mmaction_tokenreduce
from mmaction.registry import Registry
assert hasattr(mmaction_tokenreduce, 'models'), 'mmaction2 was not found'
modules = [module for registry in vars(registries).values()
           if isinstance(registry, Registry)
           for module in registry.module_dict.values()]
own = sum(module.__module__.startswith('mmaction_tokenreduce') for module in modules)
assert own, 'nothing is registered'
import mmaction.models
assert 'MViT' in registries.MODELS.module_dict, 'mmaction2 registers no MViT'
result = f'registers {own} modules'
''',
    'device': '''
import torch
result = 'no CUDA device; all runs on the CPU'
if torch.cuda.is_available():
    torch.ones(1, device='cuda').sum().item()
    result = (f'{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}, '
              f'CUDA {torch.version.cuda}')
'''}
FIXES = {'mmcv ops': MMCV_FIX,
         'video': 'pip install --force-reinstall --no-deps "av>=12.0"',
         'compat': 'pip install "mmaction2>=1.2.0,<1.3" "mmengine>=0.10.1,<1.0"',
         'plug-in': 'TOKENREDUCE_TRACEBACK=1 python -c "import mmaction_tokenreduce"',
         'device': 'nvidia-smi'}

# The process that tries: prints a line before and a line after each step.
TRIER = '''
import importlib, json, sys, warnings
warnings.simplefilter('ignore')
root, steps = json.loads(sys.argv[1])
sys.path.insert(0, root)
out = sys.stdout
sys.stdout = sys.stderr
def say(*words):
    print(json.dumps(words), file=out, flush=True)
for name, code in steps:
    say('start', name)
    try:
        if code is None:
            shown = str(getattr(importlib.import_module(name), '__version__', ''))
        else:
            scope = {'root': root}
            exec(code, scope)
            shown = scope['result']
        say('ok', name, shown)
    except BaseException as error:
        missing = getattr(error, 'name', None) if isinstance(
            error, ModuleNotFoundError) else None
        say('fail', name, f'{type(error).__name__}: {error}', missing)
'''


class Row(NamedTuple):
    """A line of the report: what, its state, what was seen, what mends it."""

    name: str
    state: str
    seen: str
    fix: str = ''


class Outcome(NamedTuple):
    """Of one step: whether it worked, what it said, the module that it missed."""

    worked: bool
    said: str
    missing: str | None = None


def try_all(steps: Sequence[tuple[str, str | None]]) -> dict[str, Outcome]:
    """Try imports and probes, in as many processes as crash, and one.

    Args:
        steps: Names with the code to run, None to import the name.

    Returns:
        What came of each, by name.
    """
    outcomes: dict[str, Outcome] = {}
    left = list(steps)
    while left:
        said, ending = _run_trier(left)
        before = len(outcomes)
        for kind, name, *words in said:
            if kind != 'start':
                outcomes[name] = Outcome(kind == 'ok', *words)
        begun = [words[1] for words in said if words[0] == 'start']
        if begun and begun[-1] not in outcomes:
            outcomes[begun[-1]] = Outcome(False, ending)
        left = [step for step in left if step[0] not in outcomes]
        if len(outcomes) == before:  # Python itself does not start
            outcomes.update((name, Outcome(False, ending)) for name, _ in left)
            break
    return outcomes


def _run_trier(steps: Sequence[tuple[str, str | None]]) -> tuple[list[list], str]:
    """The lines of one process, and how it ended."""
    command = [sys.executable, '-c', TRIER, json.dumps([str(ROOT), steps])]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False,
                              stderr=subprocess.DEVNULL, timeout=TIMEOUT)
        text, ending = done.stdout, f'the process crashed (exit {done.returncode})'
    except subprocess.TimeoutExpired as error:
        text = (error.stdout or b'').decode()
        ending = f'it hangs: no answer in {TIMEOUT} s'
    return [json.loads(line) for line in text.splitlines()], ending


def normalized(name: str) -> str:
    """A distribution's name as setup.cfg, pins and pip agree on it."""
    return re.sub(r'[-_.]+', '-', name).lower()


def read_ranges() -> dict[str, str]:
    """Requirement by distribution, of setup.cfg with all extras."""
    config = configparser.ConfigParser()
    config.read(ROOT / 'setup.cfg')
    text = [config['options']['install_requires'],
            *config['options.extras_require'].values()]
    lines = [line.strip() for line in '\n'.join(text).splitlines()]
    return {normalized(re.split(r'[<>=!~]', line)[0]): line for line in lines
            if line and not line.startswith('#')}


def read_pins() -> dict[str, str]:
    """Tested version by distribution."""
    lines = (ROOT / 'requirements/tested.txt').read_text().splitlines()
    return {normalized(name): version for name, _, version in (
        line.partition('==') for line in lines) if version}


def release(version: str) -> tuple[int, ...]:
    """The numbers of a version: '2.13.0+cpu' is (2, 13, 0)."""
    match = re.match(r'\d+(\.\d+)*', version)
    return tuple(map(int, match.group().split('.'))) if match else ()


def admits(requirement: str, version: str) -> bool:
    """Whether a requirement of >= and < (all that setup.cfg has) takes a version."""
    for sign, limit in re.findall(r'(>=|<)\s*([\d.]+)', requirement):
        ours, theirs = release(version), release(limit)
        size = max(len(ours), len(theirs))
        ours, theirs = (part + (0, ) * (size - len(part)) for part in (ours, theirs))
        if (ours < theirs) if sign == '>=' else (ours >= theirs):
            return False
    return True


def distribution_version(name: str) -> str:
    """Version of an installed distribution, '' where there is none."""
    try:
        return importlib.metadata.version(name) or ''
    except importlib.metadata.PackageNotFoundError:
        return ''


def package_row(module: str, distribution: str, use: str | None, outcome: Outcome,
                requirement: str, tested: str) -> Row:
    """The row of a package.

    Args:
        module: Its import name.
        distribution: Its name for pip.
        use: What needs it, None where everything does.
        outcome: Of its import.
        requirement: Its range, as in setup.cfg; '' where it has none there.
        tested: The tested version; '' where none is.
    """
    requirement = requirement or distribution
    fix = MMCV_FIX if module == 'mmcv' else f'pip install "{requirement}"'
    version = distribution_version(distribution)
    if outcome.worked and not version.startswith(outcome.said):
        version = outcome.said  # of another distribution with the same modules
    if outcome.missing == module and not (version and use is None):
        state = BROKEN if use is None else NOTE
        return Row(distribution, state, 'not installed'
                   + (f'; needed for {use} only' if use else ''),
                   fix if use is None else '')
    if not outcome.worked:
        return Row(distribution, BROKEN, f'{version} {outcome.said}'.strip(), fix)
    if not admits(requirement, version):
        return Row(distribution, BROKEN, f'{version} is outside of {requirement}', fix)
    if tested and release(version) != release(tested):
        return Row(distribution, NOTE, f'{version}, tested is {tested}')
    return Row(distribution, OK, version)


def probe_row(name: str, outcome: Outcome, broken: Sequence[str]) -> Row:
    """The row of a probe; one that misses a package reported already is not tried."""
    if outcome.worked:
        return Row(name, OK, outcome.said)
    if outcome.missing and outcome.missing.partition('.')[0] in broken:
        return Row(name, NOTE, f'not tried, as {outcome.missing} is missing')
    return Row(name, BROKEN, outcome.said, FIXES[name])


def environment_rows() -> list[Row]:
    """Python, threads and shared memory."""
    version = '.'.join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] != (3, 11):
        rows = [Row('python', NOTE, f'{version}, tested is 3.11')]
    else:
        rows = [Row('python', OK, version)]
    cores = len(os.sched_getaffinity(0))
    threads = os.environ.get('OMP_NUM_THREADS', '')
    if threads.isdigit() and int(threads) > cores:
        rows.append(Row('threads', NOTE, f'OMP_NUM_THREADS={threads} on {cores} cores: '
                        'export a smaller number'))
    else:
        rows.append(Row('threads', OK, f'OMP_NUM_THREADS={threads or "not set"}, '
                        f'{cores} cores'))
    try:
        size = shutil.disk_usage('/dev/shm').total
    except OSError:
        rows.append(Row('/dev/shm', NOTE, 'not there: set num_workers=0'))
        return rows
    shown = f'{size / 2**30:.1f} GiB'
    if size < SMALL_SHM:
        rows.append(Row('/dev/shm', NOTE, f'{shown} is little for DataLoader workers: '
                        'docker run --shm-size 8g'))
    else:
        rows.append(Row('/dev/shm', OK, shown))
    return rows


def examine() -> list[Row]:
    """All rows of the report."""
    outcomes = try_all([*((module, None) for module, *_ in PACKAGES),
                        *PROBES.items()])
    ranges, pins = read_ranges(), read_pins()
    packages = [package_row(module, name, use, outcomes[module],
                            ranges.get(normalized(name), ''),
                            pins.get(normalized(name), ''))
                for module, name, use in PACKAGES]
    broken = [module for (module, *_), row in zip(PACKAGES, packages, strict=True)
              if row.state == BROKEN]
    python, *rest = environment_rows()
    return [python, *packages,
            *(probe_row(name, outcomes[name], broken) for name in PROBES), *rest]


def one_line(text: str, width: int) -> str:
    """Text on one line, cut at a width."""
    return textwrap.shorten(' '.join(text.split()), width, placeholder=' ...')


def remedies(rows: Sequence[Row]) -> list[str]:
    """Commands, plain installations joined in one; torch comes first, mmcv last."""
    fixes = dict.fromkeys(row.fix for row in rows if row.fix)
    plain = [fix for fix in fixes if fix.startswith('pip install "')
             and fix.count('"') == 2]
    joined = ['pip install ' + ' '.join(fix.removeprefix('pip install ')
                                        for fix in plain)] if plain else []
    return joined + sorted((fix for fix in fixes if fix not in plain),
                           key=lambda fix: fix == MMCV_FIX)


def report(rows: Sequence[Row]) -> str:
    """The screen."""
    room = WIDTH - 31
    lines = [f'{row.name:22} {row.state:7} {one_line(row.seen, room)}' for row in rows]
    commands = remedies(rows)
    if not commands:
        return '\n'.join([*lines, 'Nothing is broken.'])
    lines.append('To mend it (docs/troubleshooting.md says why), in this order, or '
                 'make install:')
    for command in commands:
        parts = textwrap.wrap(command, WIDTH - 4, break_long_words=False,
                              break_on_hyphens=False)
        lines += [f'  {part}' for part in ' \\\n'.join(parts).split('\n')]
    return '\n'.join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool.

    Args:
        argv: Options. Defaults to the command line's.

    Returns:
        The exit status: 0 where nothing is broken, 1 otherwise.
    """
    argparse.ArgumentParser(
        prog='doctor.py', description='Say what is installed, what is broken, and what '
        'mends it. Exit status 1 if something is broken.').parse_args(argv)
    rows = examine()
    print(report(rows))
    return int(any(row.state == BROKEN for row in rows))


if __name__ == '__main__':
    sys.exit(main())
