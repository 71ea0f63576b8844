# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Parts of a model with rates of their own, and no weight decay on norms and biases.

In mmengine's constructor a custom key switches ``flat_decay_mult`` off for all that it
matches: a part with a rate of its own decays its norms, unless each is named.
"""
from typing import Any

from mmaction.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class FlatDecayConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor, whose ``flat_decay_mult`` holds for every 1-d parameter.

    The arguments are those of ``DefaultOptimWrapperConstructor``; ``paramwise_cfg``
    must have ``flat_decay_mult``.

    Raises:
        ValueError: If it has not.
    """

    def __init__(self, optim_wrapper_cfg: dict,
                 paramwise_cfg: dict | None = None) -> None:
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        if 'flat_decay_mult' not in self.paramwise_cfg:
            raise ValueError('FlatDecayConstructor: optim_wrapper.paramwise_cfg needs '
                             'flat_decay_mult; without it leave the constructor out')
        if self.base_wd is None:
            raise ValueError('FlatDecayConstructor: optim_wrapper.optimizer needs '
                             'weight_decay')

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = '',
                   **kwargs: Any) -> None:
        """Add a group for each parameter.

        Args:
            params (list[dict]): Groups so far; more are added.
            module (nn.Module): Whose parameters are added.
            prefix (str): Its name.
            **kwargs: As for mmengine's.
        """
        super().add_params(params, module, prefix, **kwargs)
        if prefix:  # a child; all are done with the model itself
            return
        for group in params:
            if all(parameter.dim() == 1 for parameter in group['params']):
                group['weight_decay'] = (self.base_wd
                                         * self.paramwise_cfg['flat_decay_mult'])
