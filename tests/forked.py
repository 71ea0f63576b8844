# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Scripts in processes of their own that need not import everything again.

A fork of the test's process has imported torch and mmaction, which takes a fresh
Python several seconds. Tests of what a fresh process itself does start one.
"""
import multiprocessing
import os
import runpy
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from tiny_run import forget_runs


class Ended(NamedTuple):
    """What a script left: its exit status, and both streams as text."""
    returncode: int
    stdout: str
    stderr: str


def run_script(script: Path | str, *arguments: Path | str | int) -> Ended:
    """Run ``python script arguments`` in a fork; two minutes at most."""
    return _run(script, arguments, [{}])[0]


def run_ranks(count: int, script: Path | str,
              *arguments: Path | str | int) -> list[Ended]:
    """Run a script in ``count`` forks, with what torchrun tells its processes."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    common = dict(WORLD_SIZE=count, LOCAL_WORLD_SIZE=count, MASTER_ADDR='127.0.0.1',
                  MASTER_PORT=port)
    return _run(script, arguments, [
        {name: str(value) for name, value in dict(
            common, RANK=rank, LOCAL_RANK=rank).items()} for rank in range(count)])


def _run(script: Path | str, arguments: tuple, settings: list[dict]) -> list[Ended]:
    """Run a script in one fork for each of some settings of the environment."""
    fork, command = multiprocessing.get_context('fork'), list(map(str, arguments))
    with TemporaryDirectory() as folder:
        outs = [Path(folder, str(index)) for index in range(len(settings))]
        forks = [fork.Process(target=_child, args=(str(script), command, setting, out))
                 for setting, out in zip(settings, outs, strict=True)]
        try:
            for process in forks:
                process.start()
            for process in forks:
                process.join(120)
        finally:
            for process in forks:
                if process.is_alive():
                    process.kill()
                    process.join()
        return [Ended(process.exitcode, Path(f'{out}.out').read_text(),
                      Path(f'{out}.err').read_text())
                for process, out in zip(forks, outs, strict=True)]


def _child(script: str, arguments: list[str], environment: Mapping[str, str],
           out: Path) -> None:
    """Be ``python script arguments``, with both streams in files."""
    for stream, number, name in (('stdout', 1, 'out'), ('stderr', 2, 'err')):
        file = open(f'{out}.{name}', 'w')
        os.dup2(file.fileno(), number)
        setattr(sys, stream, file)
    os.environ.update(environment, OMP_NUM_THREADS='1')
    torch.set_num_threads(1)  # those of the parent are gone
    forget_runs()
    sys.argv = [script, *arguments]
    sys.path.insert(0, str(Path(script).parent))
    runpy.run_path(script, run_name='__main__')
