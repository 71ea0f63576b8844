# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Sets up `.venv`: the tested set, with mmcv compiled once, and this checkout.

Called by `make install` through setup_env.sh, which finds Python 3.11. What can stop
the work is looked for first: `--check` does that and no more. Every step leaves alone
what is in place already, so an interrupted run is mended by running it again; the
stamp `.venv/installed` is written last. pip works with the user's own configuration,
and writes to `.venv/install.log`.

From the environment: TORCH (what pip installs in place of the pinned torch), CXX,
MAX_JOBS (compiler jobs) and TMPDIR.
"""

import argparse
import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / '.venv'
PYTHON = VENV / 'bin' / 'python'
LOG = VENV / 'install.log'
STAMP = VENV / 'installed'
PINS = ROOT / 'requirements' / 'tested.txt'

# GiB: the environment measures 2 with a CPU build of torch and some 8 with CUDA; a
# build of mmcv stays under 1 of temporary files, pip's unpacked downloads come on top.
VENV_GIB, CUDA_GIB, TMP_GIB = 4.0, 12.0, 2.0
# A compiler process on mmcv's sources was seen at 2.4 GiB.
JOB_GIB = 2.5
# Seconds without a word at the start of a step, and between words after that.
FIRST_WORD_S, NEXT_WORD_S = 20, 30

INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

HINTS = {
    'No space left on device': 'the disk is full: free some space, or set TMPDIR',
    'Killed signal': 'the compiler ran out of memory: set MAX_JOBS=1',
    'No matching distribution found': "pip's indexes do not offer or do not answer",
}


def say(message: str) -> None:
    """Prints one line at once, so that a log file shows it when it happens."""
    print(f'setup: {message}', flush=True)


def fail(message: str) -> NoReturn:
    """Ends the run with one line on stderr and exit status 1."""
    raise SystemExit(f'setup: {message}')


# What is looked for before the work starts


def installed_version(name: str) -> str | None:
    """Version of a package in `.venv` as its folder name says, None without it."""
    folders = VENV.glob(f'lib/python*/site-packages/{name}-*.dist-info')
    return next((f.name.split('-')[1].removesuffix('.dist') for f in folders), None)


def check_venv() -> None:
    """Fails on a `.venv` of another Python, or where none can be made."""
    ask = 'import sys; print("%d.%d" % sys.version_info[:2])'
    if os.access(PYTHON, os.X_OK):
        run = subprocess.run([PYTHON, '-c', ask], capture_output=True, text=True)
        ours = '{}.{}'.format(*sys.version_info[:2])
        if run.returncode == 0 and run.stdout.strip() != ours:
            fail(f'.venv holds Python {run.stdout.strip()}, not {ours}: make distclean')
        if run.returncode == 0:
            return
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError as error:
        fail(
            f'{sys.executable} cannot make environments ({error}); install its venv '
            'module (Debian, Ubuntu: apt-get install python3.11-venv)'
        )


def check_disk(venv_gib: float, tmp_gib: float) -> None:
    """Fails where the checkout or the temporary folder has too little room.

    Args:
        venv_gib: GiB wanted free for `.venv`.
        tmp_gib: GiB wanted free for temporary files.
    """
    tmp = Path(tempfile.gettempdir())
    needs = {ROOT: venv_gib, tmp: tmp_gib}
    if ROOT.stat().st_dev == tmp.stat().st_dev:
        needs = {ROOT: venv_gib + tmp_gib}
    for folder, need in needs.items():
        free = shutil.disk_usage(folder).free / 2**30
        if free < need:
            other = ', or set TMPDIR to a folder with room' if folder == tmp else ''
            fail(
                f'{folder} has {free:.1f} GiB free, {need:.1f} GiB are needed; '
                f'free some space{other}'
            )


def check_compiler() -> str:
    """Name of a C++ compiler that builds a Python extension; fails without one."""
    named = os.environ.get('CXX')
    names = [named] if named else ['c++', 'g++', 'clang++']
    name = next((n for n in names if shutil.which(shlex.split(n)[0])), None)
    if name is None:
        fail(
            f'no C++ compiler ({", ".join(names)}): mmcv has to be compiled; install '
            'one (Debian, Ubuntu: apt-get install g++), or name it: CXX='
        )
    include = Path(sysconfig.get_path('include'))
    if not (include / 'Python.h').is_file():
        fail(
            f'{include}/Python.h is missing: mmcv is compiled against it; install the '
            'Python headers (Debian, Ubuntu: apt-get install python3.11-dev)'
        )
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / 'probe.cpp'
        source.write_text('#include <Python.h>\n#include <vector>\nint probe;\n')
        flags = ['-std=c++17', '-shared', '-fPIC', f'-I{include}']
        command = [*shlex.split(name), *flags, str(source), '-o', f'{folder}/probe.so']
        run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        reason = next((s for s in run.stderr.splitlines() if 'error' in s), '')
        fail(
            f'the C++ compiler {name} cannot build a C++17 Python extension '
            f'(exit status {run.returncode}{": " + reason if reason else ""})'
        )
    return name


def has_nvidia_driver() -> bool:
    """Whether this machine has an NVIDIA driver loaded or its tool at hand."""
    loaded = Path('/proc/driver/nvidia/version').exists()
    return loaded or shutil.which('nvidia-smi') is not None


def check() -> None:
    """Looks for what can stop the work; fails with one line on the first such thing."""
    if not os.access(ROOT, os.W_OK):
        fail(f'{ROOT} is not writable: .venv is made there')
    check_venv()
    has_torch, has_mmcv = installed_version('torch'), not mmcv_error()
    cuda = has_nvidia_driver() and not os.environ.get('TORCH')
    venv_gib = CUDA_GIB if cuda else VENV_GIB
    check_disk(0.5 if has_torch else venv_gib, 0.5 if has_mmcv else TMP_GIB)
    if not has_mmcv:
        check_compiler()


# Running pip


class PipLog:
    """What pip's growing log says of the step that began with this object.

    Attributes:
        text: All of the step's output so far.
    """

    def __init__(self) -> None:
        self._file = LOG.open(errors='replace')
        self._file.seek(0, os.SEEK_END)
        self.text = ''

    def read(self) -> None:
        """Takes up what was written since the last call."""
        self.text += self._file.read()

    def compiles(self, name: str) -> bool:
        """Whether pip builds (or built) a wheel of that package in this step."""
        return f'Building wheel for {name} ' in self.text

    def position(self) -> str:
        """How far the step is: ninja's count of files, else pip's last line."""
        counts = re.findall(r'^\s*\[(\d+)/(\d+)\] ', self.text, re.MULTILINE)
        if counts:
            return '{} of {} files compiled'.format(*counts[-1])
        last = self.text.rstrip().rpartition('\n')[2].strip()
        return last[:70] + '…' * (len(last) > 70)


def watch(process: subprocess.Popen, log: PipLog, name: str) -> None:
    """Waits for pip, with a word when a compilation begins and now and then."""
    began = time.monotonic()
    next_word = began + FIRST_WORD_S
    announced = False
    while True:
        try:
            process.wait(timeout=1)
            log.read()
            return
        except subprocess.TimeoutExpired:
            log.read()
        now = time.monotonic()
        if name == 'mmcv' and not announced and log.compiles(name):
            announced = True
            say(
                'mmcv is being compiled: about 12 minutes on 2 cores, once '
                '(pip keeps the wheel); if interrupted it starts over'
            )
        if now >= next_word:
            next_word = now + NEXT_WORD_S
            say(f'  {name}, {(now - began) / 60:.1f} min: {log.position()}')


def stop(process: subprocess.Popen) -> None:
    """Ends pip and the compilers under it: asked first, killed after 10 seconds."""
    for sign, seconds in ((signal.SIGINT, 10), (signal.SIGKILL, 5)):
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, sign)
            process.wait(timeout=seconds)


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Puts off what would interrupt the block to its end: a process that was started
    but is not yet known to us could not be stopped."""
    came = []
    handlers = {sign: signal.getsignal(sign) for sign in INTERRUPTS}
    handlers = {sign: h for sign, h in handlers.items() if callable(h)}
    for sign in handlers:
        signal.signal(sign, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for sign, handler in handlers.items():
            signal.signal(sign, handler)
    if came:
        raise KeyboardInterrupt


def try_pip(
    name: str, *args: str, env: dict[str, str] | None = None
) -> tuple[int, PipLog]:
    """Runs `pip install`, its output in the log.

    Args:
        name: What is installed, for the lines that say how far it is.
        args: Requirements and options.
        env: Variables on top of the environment.

    Returns:
        (exit status, PipLog of the step).
    """
    options = ['-v', '--no-input', '--disable-pip-version-check']
    command = [PYTHON, '-m', 'pip', *options, 'install', '--progress-bar', 'off', *args]
    variables = {**os.environ, 'PYTHONUNBUFFERED': '1', 'PIP_USER': '0', **(env or {})}
    log = PipLog()
    process = None
    try:
        with interrupts_held(), LOG.open('ab') as sink:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        watch(process, log, name)
    except BaseException:
        if process:
            stop(process)
        raise
    return process.returncode, log


def report_failure(name: str, status: int, log: PipLog) -> NoReturn:
    """Shows the end of a failed step's output, and last the line that sums it up."""
    lines = log.text.rstrip().splitlines()
    errors = [s for s in lines if re.search(r'(error|ERROR|Error|Killed.*): ', s)]
    for line in dict.fromkeys([*errors[:4], *lines[-6:]]):
        print(f'    {line[:200]}', file=sys.stderr)
    hint = next((h for sign, h in HINTS.items() if sign in log.text), 'see above')
    fail(f'pip failed at {name} (status {status}): {hint}; its whole output: {LOG}')


def pip(name: str, *args: str, env: dict[str, str] | None = None) -> PipLog:
    """Runs `pip install` as `try_pip` does and ends the run if it fails."""
    status, log = try_pip(name, *args, env=env)
    if status:
        report_failure(name, status, log)
    return log


# The steps


def read_pins() -> dict[str, str]:
    """The lines of requirements/tested.txt by package name."""
    lines = [line.partition('#')[0].strip() for line in PINS.read_text().splitlines()]
    return {line.partition('==')[0]: line for line in lines if line}


def make_venv() -> None:
    """Makes `.venv`, or mends one that does not run, lacks pip or was cut short."""
    ask_pip = [PYTHON, '-m', 'pip', '--version']
    if not os.access(PYTHON, os.X_OK):
        command = [sys.executable, '-m', 'venv', '--clear', VENV]
    elif subprocess.run(ask_pip, capture_output=True).returncode:
        command = [PYTHON, '-m', 'ensurepip']
    else:
        command = None
    if command:
        say(f'making .venv with Python {sys.version.split()[0]}')
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode:
            last = (run.stdout + run.stderr).strip().splitlines()[-1:] or ['']
            fail(f'{sys.executable} could not make .venv: {last[0]}')
    # pip writes INSTALLER last: a package without it was cut short. Without its
    # dist-info folder pip installs it again.
    for folder in VENV.glob('lib/python*/site-packages/*.dist-info'):
        if not (folder / 'INSTALLER').exists():
            shutil.rmtree(folder)


def install_torch(pin: str) -> None:
    """Installs torch: TORCH if set, else the pin, without CUDA where no GPU is."""
    named = os.environ.get('TORCH')
    version = pin.partition('==')[2]
    if named:
        say(f'torch, as TORCH says: {named}')
        pip('torch', *shlex.split(named))
        return
    if (installed_version('torch') or '').partition('+')[0] == version:
        return
    if sys.platform == 'linux' and not has_nvidia_driver():
        say(f'torch {version}, the CPU build (no NVIDIA driver here)')
        status, log = try_pip('torch', f'{pin}+cpu')
        if status == 0:
            return
        if 'No matching distribution found' not in log.text:
            report_failure('torch', status, log)
        say(
            f"pip's indexes offer no CPU build of torch {version}; the default one "
            'brings CUDA libraries, several GB (TORCH= names another: make help)'
        )
    if sys.platform == 'linux':
        check_disk(CUDA_GIB, TMP_GIB)
    say(f'torch {version}')
    pip('torch', pin)


def mmcv_error() -> str:
    """Why the operators of the pinned mmcv cannot be used, '' where they can."""
    version = read_pins()['mmcv'].partition('==')[2]
    if installed_version('mmcv') != version:
        return f'mmcv {version} is not installed'
    command = [PYTHON, '-c', 'import mmcv.ops']
    run = subprocess.run(command, capture_output=True, text=True, cwd=VENV)
    return run.stderr.strip().splitlines()[-1] if run.returncode else ''


def compiler_jobs() -> int:
    """Compiler processes to run at a time: one a core, as far as memory allows."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == 'linux' else os.cpu_count()
    memory = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30
    return max(1, min(cores or 1, int(memory / JOB_GIB)))


def install_mmcv(pin: str) -> None:
    """Installs mmcv from pip's cache or compiles it, its operators for the CPU."""
    if not mmcv_error():
        return
    jobs = os.environ.get('MAX_JOBS') or str(compiler_jobs())
    # Without a GPU in sight mmcv leaves its CUDA sources out, which would need nvcc.
    env = {'CXX': check_compiler(), 'MAX_JOBS': jobs, 'CUDA_VISIBLE_DEVICES': ''}
    say(f'mmcv, from the cache of pip or compiled with MAX_JOBS={jobs}')
    build = ['--no-build-isolation', pin]
    log = pip('mmcv', *build, env=env)
    error = mmcv_error()
    if error and not log.compiles('mmcv'):
        # pip's cache does not know which torch a wheel was compiled for.
        say(f'that mmcv does not load, so it is compiled anew (…{error[-80:]})')
        pip('mmcv', '--no-cache-dir', '--force-reinstall', '--no-deps', *build, env=env)
        error = mmcv_error()
    if error:
        fail(f'mmcv is installed, but its operators do not load: {error}')
    if has_nvidia_driver():
        say("mmcv's operators are for the CPU; box detection on a GPU needs nvcc's too")


def install() -> None:
    """Goes through the steps and leaves the stamp."""
    began = time.monotonic()
    make_venv()
    LOG.write_text('')
    pins = read_pins()
    # What mmcv is built with. opencv-python comes first, since opencv-contrib-python
    # holds the same files and more, and the later one's stay.
    first = ['ninja', 'setuptools', 'wheel', 'numpy', 'opencv-python']
    say('build tools')
    pip('build tools', *(pins[name] for name in first))
    install_torch(pins['torch'])
    rest = [pin for name, pin in pins.items() if name not in ('torch', 'mmcv')]
    say(f'{len(rest)} pinned packages')
    pip('packages', '--no-build-isolation', *rest)
    install_mmcv(pins['mmcv'])
    say('this checkout, editable')
    pip('mmaction_tokenreduce', '--no-build-isolation', '--no-deps', '-e', '.')
    # Line 1 tells the Makefile when the checkout was moved, line 2 the tests which
    # torch was asked for.
    part = STAMP.with_suffix('.part')
    part.write_text(f'{ROOT}\n{os.environ.get("TORCH") or pins["torch"]}\n')
    os.replace(part, STAMP)
    say(f'.venv is ready ({(time.monotonic() - began) / 60:.1f} min)')


def interrupt(*_: object) -> NoReturn:
    """Makes a polite end (SIGTERM, SIGHUP) one and the same with Ctrl-C."""
    raise KeyboardInterrupt


def main() -> None:
    """Checks, and unless `--check` is given, sets up."""
    parser = argparse.ArgumentParser(description='Set up .venv in this checkout.')
    parser.add_argument('--check', action='store_true', help='only look for obstacles')
    args = parser.parse_args()
    for sign in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(sign) != signal.SIG_IGN:  # as under nohup
            signal.signal(sign, interrupt)
    try:
        check()
        if args.check:
            say('nothing stands in the way')
        else:
            install()
    except KeyboardInterrupt:
        print('setup: interrupted; run it again to go on', file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == '__main__':
    main()
