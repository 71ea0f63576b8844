# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Watching what reducers of a model decide, with standard forward hooks."""
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from torch import nn

from ..layers import Choice, Merge

__all__ = ['ReducerWatch']


class ReducerWatch:
    """Base of the traces: hooks while it is entered, and the decision of a call.

    Subclasses record in ``_see_reducer``, which runs after each call of a reducer.

    Args:
        reducers: Modules with a child ``choose``, whose output is the decision.
    """

    def __init__(self, reducers: Sequence[nn.Module]) -> None:
        self._reducers = reducers
        self._handles: list[Any] = []
        self.clear()

    def clear(self) -> None:
        """Forget what was recorded; do so before another batch."""
        self._seen: list[Any] = []
        self._decision: Choice | Merge | None = None

    def __enter__(self) -> 'ReducerWatch':
        for reducer in self._reducers:
            self._handles += [
                reducer.choose.register_forward_hook(self._see_decision),
                reducer.register_forward_hook(self._see_reducer)
            ]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _see_decision(self, module: nn.Module, args: tuple,
                      output: Choice | Merge) -> None:
        self._decision = output
