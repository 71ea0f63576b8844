# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Gradients of two gloo processes, to compare with those of one."""
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import torch
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.testing import assert_close

# Makes the model, which maps clips to a loss, with the randomness of the clips number
# first to first + count of the joined batch.
Make = Callable[[int, int], nn.Module]
Gradients = dict[str, Tensor]


def gradients_of_one(make: Make, clips: Tensor) -> Gradients:
    """Gradients of all clips in this process."""
    model = make(0, len(clips))
    model(clips).backward()
    return {name: p.grad for name, p in model.named_parameters()}


def gradients_of_two(make: Make, clips: Tensor, folder: Path) -> Gradients:
    """The same, each of two processes with half of the clips."""
    # forked, they need not import everything again
    mp.start_processes(_rank, (make, clips, str(folder)), nprocs=2,
                       start_method='fork')
    return torch.load(folder / 'grads.pth')


def assert_same(one: Gradients, two: Gradients, but_for: str = ' ') -> None:
    """Compare, but for names that end in ``but_for``."""
    assert one.keys() == two.keys()
    for name, grad in one.items():
        if not name.endswith(but_for):
            assert_close(two[name], grad, rtol=1e-3, atol=1e-6,
                         msg=lambda m, n=name: n + m)


def _rank(rank: int, make: Make, clips: Tensor, folder: str) -> None:
    os.environ['GLOO_SOCKET_IFNAME'] = 'lo'
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/meeting', rank=rank, world_size=2,
        timeout=timedelta(seconds=60))
    half = len(clips) // 2
    grads = _shared(make(half * rank, half), clips[half * rank:half * (rank + 1)])
    if rank == 0:
        torch.save(grads, os.path.join(folder, 'grads.pth'))
    torch.distributed.destroy_process_group()


def _shared(model: nn.Module, clips: Tensor) -> Gradients:
    """Gradients of this process's clips, averaged over all processes.

    The wrapper is gone when it returns, so the process group outlives it. Freed the
    other way round, the wrapper's reducer (torch 2.13) ends the group while it holds
    the GIL: it waits for a gloo thread that may be waiting for the GIL, for ever.
    """
    wrapper = DistributedDataParallel(model)
    wrapper(clips).backward()
    return {name: p.grad for name, p in model.named_parameters()}
