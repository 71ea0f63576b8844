# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Mixed precision on the CPU: bfloat16 autocast, where mmengine's wrapper refuses.

mmengine's ``AmpOptimWrapper`` asserts an accelerator. bfloat16 has float32's range of
exponents, so that gradients need no loss scaling.
"""
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmaction.registry import OPTIM_WRAPPERS
from mmengine.optim import OptimWrapper
from torch import nn


@OPTIM_WRAPPERS.register_module()
class CPUAmpOptimWrapper(OptimWrapper):
    """``OptimWrapper`` whose forward passes run under CPU bfloat16 autocast.

    Parameters, their gradients and the optimiser's state stay in float32. Gradient
    accumulation and clipping are those of ``OptimWrapper``, and so are the arguments
    (``optimizer``, ``accumulative_counts``, ``clip_grad``).
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Context of one forward pass.

        Args:
            model (nn.Module): The model being trained, wrapped or not.

        Yields:
            None: Autocast is on, and gradients are not synchronised in a step that
                only accumulates.
        """
        with super().optim_context(model), torch.autocast('cpu', torch.bfloat16):
            yield

    def initialize_count_status(self, model: nn.Module, init_counts: int,
                                max_counts: int) -> None:
        """Set the counters of gradient accumulation, once the model is in place.

        Args:
            model (nn.Module): The model to train.
            init_counts (int): Iterations already done.
            max_counts (int): Iterations in the whole run.

        Raises:
            ValueError: If the model is not on the CPU, where this autocast would do
                nothing.
        """
        kinds = {parameter.device.type for parameter in model.parameters()}
        if kinds != {'cpu'}:
            raise ValueError(
                'optim_wrapper.type=CPUAmpOptimWrapper is for models on the CPU, this '
                f'one is on {", ".join(sorted(kinds))}; use AmpOptimWrapper there')
        super().initialize_count_status(model, init_counts, max_counts)
