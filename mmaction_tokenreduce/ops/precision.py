# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Keeping exact what must be exact under autocast."""
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

__all__ = ['no_autocast']


def no_autocast(x: Tensor) -> AbstractContextManager:
    """A context in which operations on x's device keep their types.

    Devices that know no autocast (``meta``) have nothing to turn off.
    """
    if not torch.amp.is_autocast_available(x.device.type):
        return nullcontext()
    return torch.autocast(x.device.type, enabled=False)
