# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""A linear layer that is fast on any CPU, and how to put it into a model."""
from torch import Tensor, nn

from ..ops.linear import linear

__all__ = ['FastLinear', 'replace_linears']


class FastLinear(nn.Linear):
    """``nn.Linear`` by :func:`mmaction_tokenreduce.ops.linear`: same parameters."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def replace_linears(module: nn.Module) -> None:
    """Let every plain ``nn.Linear`` below ``module`` compute as :class:`FastLinear`.

    Parameters, names and hooks stay; subclasses of ``nn.Linear`` are left alone.
    """
    for child in module.modules():
        if type(child) is nn.Linear:
            child.__class__ = FastLinear
