# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Watching what parts of a model decide, with standard forward hooks."""
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from torch import nn

from ..layers import Choice, Merge, Pruning
from ..layers.deformable_attention import Points

__all__ = ['DecisionWatch']


class DecisionWatch:
    """Base of the traces: hooks while it is entered, and the decision of a call.

    Subclasses record in ``_see_call``, which runs after each call of a module.

    Args:
        modules: Reducers or attentions, with a child ``choose`` whose output is the
            decision.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self._watched = modules
        self._handles: list[Any] = []
        self.clear()

    def clear(self) -> None:
        """Forget what was recorded; do so before another batch."""
        self._seen: list[Any] = []
        self._decision: Choice | Merge | Points | Pruning | None = None

    def __enter__(self) -> 'DecisionWatch':
        for module in self._watched:
            self._handles += [
                module.choose.register_forward_hook(self._see_decision),
                module.register_forward_hook(self._see_call)
            ]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _see_decision(self, module: nn.Module, args: tuple,
                      output: Choice | Merge | Points | Pruning) -> None:
        self._decision = output
