# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""A linear layer that is fast on any CPU, and how to put it into a model."""
from torch import Tensor, nn

from ..ops.linear import linear

__all__ = ['FastLinear', 'replace_linears']


class FastLinear(nn.Linear):
    """``nn.Linear`` by :func:`mmaction_tokenreduce.ops.linear`: same parameters."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def replace_linears(module: nn.Module,
                    kinds: tuple[type[nn.Linear], ...] = (nn.Linear, )) -> None:
    """Let plain linear layers below ``module`` compute as :class:`FastLinear`.

    Parameters, names and hooks stay.

    Args:
        module: Whose children are changed.
        kinds: The exact classes to change; others, subclasses among them, are left
            alone.
    """
    for child in module.modules():
        if type(child) in kinds:
            child.__class__ = FastLinear
