# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Times of several calls that are run in turns, so that they can be compared.

A turn runs each call once (A B C, A B C, ...): a machine that slows down slows all of
them alike, and a ratio is the median over turns of the ratios within a turn.
"""
import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn
from tqdm import tqdm

__all__ = ['Spread', 'ratios', 'time_in_turns', 'time_shares']

Name = TypeVar('Name', bound=Hashable)


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of some values.

    Attributes:
        median: Half of the values are below it.
        low: The first quartile.
        high: The third.
    """
    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float], scale: float = 1.) -> 'Spread':
        """Of one value or more, each times ``scale``."""
        values = [value * scale for value in values]
        if len(values) == 1:
            return cls(*values * 3)
        low, _, high = statistics.quantiles(values, n=4, method='inclusive')
        return cls(statistics.median(values), low, high)

    @property
    def quartiles(self) -> list[float]:
        """The first and the third."""
        return [self.low, self.high]


def _timed(call: Callable[[], Any], device: torch.device) -> float:
    """Seconds of one call, with all that it leaves in the queue of the device."""
    _wait(device)
    start = time.perf_counter()
    call()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def time_in_turns(calls: Mapping[Name, Callable[[], Any]], turns: int,
                  device: torch.device, warm_up: int = 1,
                  title: str = 'turns') -> dict[Name, list[float]]:
    """Seconds of each call in every turn.

    Args:
        calls: What is timed, by name.
        turns: How often each is run.
        device: Where they run.
        warm_up: Turns before these, which are not timed.
        title: Of the progress bar, which a terminal shows.
    """
    seconds = {name: [] for name in calls}
    for turn in tqdm(range(-warm_up, turns), desc=title, unit='turn', disable=None):
        for name, call in calls.items():
            spent = _timed(call, device)
            if turn >= 0:
                seconds[name].append(spent)
    return seconds


def ratios(seconds: Sequence[float], others: Sequence[float]) -> Spread:
    """How many times as long as the others these took, turn by turn."""
    return Spread.of([a / b for a, b in zip(seconds, others, strict=True)])


def time_shares(call: Callable[[], Any], groups: Mapping[str, Sequence[nn.Module]],
                turns: int, device: torch.device) -> dict[str, float]:
    """Median shares of a call that are spent in the forward passes of modules.

    The timers wait for the device at both ends of each module, so that these are runs
    of their own.

    Args:
        call: Runs a model.
        groups: Modules of the model by name; none of a group lies in another of it.
        turns: Runs.
        device: Where it runs.

    Returns:
        A share for every group, 0 for one without modules.
    """
    spent, handles = {}, []

    def timer(name: str, sign: int) -> Callable[..., None]:
        def note(*_) -> None:
            _wait(device)
            spent[name] += sign * time.perf_counter()
        return note

    for name, modules in groups.items():
        for module in modules:
            handles += [module.register_forward_pre_hook(timer(name, -1)),
                        module.register_forward_hook(timer(name, 1))]
    shares = {name: [] for name in groups}
    try:
        for _ in range(turns if handles else 0):
            spent.update(dict.fromkeys(groups, 0.0))
            total = _timed(call, device)
            for name in groups:
                shares[name].append(spent[name] / total)
    finally:
        for handle in handles:
            handle.remove()
    return {name: statistics.median(values) if values else 0.0
            for name, values in shares.items()}
