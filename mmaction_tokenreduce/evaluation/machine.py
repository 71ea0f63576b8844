# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What times were taken on: a time without its machine says nothing."""
import os
import platform
import time
from pathlib import Path
from typing import Any

import torch

__all__ = ['busy_warning', 'describe_machine', 'machine_line']

_BUSY = 0.5  # cores that others keep busy; a share of one disturbs little
_LOOK = 0.5  # seconds


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Processor, cores, threads, versions and load; call it before anything is timed.

    Returns:
        ``processor``, ``cores`` that this process may use, ``threads`` of PyTorch,
        ``torch``, ``device`` (a GPU by its name), ``busy``: cores that other processes
        keep busy now, None where the system does not say.
    """
    affinity = getattr(os, 'sched_getaffinity', None)
    return dict(
        processor=_processor(),
        cores=len(affinity(0)) if affinity else os.cpu_count(),
        threads=torch.get_num_threads(),
        torch=str(torch.__version__),
        device=(torch.cuda.get_device_name(device) if device.type == 'cuda'
                else device.type),
        busy=_busy_cores())


def _busy_cores() -> float | None:
    """Cores in use while this process waits.

    The load average would not do: of runs one after the other, it holds the last one.
    """
    before = _core_ticks()
    time.sleep(_LOOK)
    after = _core_ticks()
    if before is None or after is None:
        return None
    idle, total = (b - a for a, b in zip(before, after, strict=True))
    return round((1 - idle / max(total, 1)) * (os.cpu_count() or 1), 2)


def _core_ticks() -> tuple[int, int] | None:
    """Ticks that all cores were idle, or waited for disks, and all ticks, on Linux."""
    stat = Path('/proc/stat')
    if not stat.is_file():
        return None
    ticks = [int(word) for word in stat.read_text().split('\n')[0].split()[1:9]]
    return sum(ticks[3:5]), sum(ticks)


def _processor() -> str:
    """Name of the processor, as Linux knows it where this is Linux."""
    info = Path('/proc/cpuinfo')
    if info.is_file():
        for line in info.read_text().splitlines():
            key, _, value = line.partition(':')
            if key.strip() == 'model name' and value.strip():
                return value.strip()
    return platform.processor() or platform.machine()


def machine_line(machine: dict[str, Any]) -> str:
    """The machine in one line of text."""
    return (f'{machine["processor"]}, {machine["cores"]} cores, {machine["threads"]} '
            f'threads, torch {machine["torch"]}, {machine["device"]}')


def busy_warning(machine: dict[str, Any]) -> str | None:
    """What to say where other processes ran before the first turn; else None."""
    if machine['busy'] is None or machine['busy'] <= _BUSY:
        return None
    return (f'other processes kept {machine["busy"]:.1f} cores busy before the first '
            'turn: times are not those of this machine, and ratios suffer, too')
