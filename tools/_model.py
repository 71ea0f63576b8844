# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Building the model of a config outside of a Runner, for tools that never train it."""
from mmaction.registry import MODELS
from mmengine.config import Config
from torch import nn


def build_model(config: Config) -> nn.Module:
    """The model of a config, its weights as its modules leave them when they are made.

    Names are looked up in the config's ``default_scope``, ``mmaction`` where it has
    none; the process's own scope stays as it is.

    Args:
        config: A config with ``model``.

    Raises:
        KeyError, TypeError, ValueError: If ``model`` cannot be built.
    """
    scope = config.get('default_scope') or 'mmaction'
    return MODELS.build({'_scope_': scope, **config.model})
