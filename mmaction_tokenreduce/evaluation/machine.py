# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What times were taken on: a time without its machine says nothing."""
import os
import platform
from pathlib import Path
from typing import Any

import torch

__all__ = ['busy_warning', 'describe_machine', 'machine_line']

_BUSY = 0.5  # cores that others keep busy; a share of one disturbs little


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Processor, cores, threads, versions and load; call it before anything is timed.

    Returns:
        ``processor``, ``cores`` that this process may use, ``threads`` of PyTorch,
        ``torch``, ``device`` (a GPU by its name), ``load``: processes that ran or
        waited to in the last minute, None where the system does not say.
    """
    affinity = getattr(os, 'sched_getaffinity', None)
    return dict(
        processor=_processor(),
        cores=len(affinity(0)) if affinity else os.cpu_count(),
        threads=torch.get_num_threads(),
        torch=str(torch.__version__),
        device=(torch.cuda.get_device_name(device) if device.type == 'cuda'
                else device.type),
        load=round(os.getloadavg()[0], 2) if hasattr(os, 'getloadavg') else None)


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
    load = '' if machine['load'] is None else f', load {machine["load"]:.1f}'
    return (f'{machine["processor"]}, {machine["cores"]} cores, {machine["threads"]} '
            f'threads, torch {machine["torch"]}, {machine["device"]}{load}')


def busy_warning(machine: dict[str, Any]) -> str | None:
    """What to say where other processes ran before the first turn; else None."""
    if machine['load'] is None or machine['load'] <= _BUSY:
        return None
    return (f'load {machine["load"]:.1f} before the first turn: other processes run '
            'here; ratios suffer, and times are not those of this machine')
