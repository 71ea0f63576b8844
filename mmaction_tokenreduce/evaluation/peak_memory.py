# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""The most memory that a call holds at a time, above what is there before it.

On a GPU it is what PyTorch allocated. On a CPU it is the resident size of the process,
as Linux notes it: a call should have run before, so that libraries are loaded, and in a
process of its own, where nothing that others left free is taken again unseen.
"""
import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

__all__ = ['peak_megabytes']


def peak_megabytes(call: Callable[[], Any], device: torch.device) -> float:
    """MiB that a call takes at most, above what stays."""
    gc.collect()
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    ctypes.CDLL(None).malloc_trim(0)  # what is free goes back to the system
    Path('/proc/self/clear_refs').write_text('5')  # the high-water mark starts anew
    before = _resident('VmRSS')
    call()
    return (_resident('VmHWM') - before) / 1024


def _resident(name: str) -> int:
    """A size of this process in KiB: VmRSS, or VmHWM, the highest so far."""
    return int(Path('/proc/self/status').read_text().split(f'{name}:')[1].split()[0])
