# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Model and clip size of a config outside of a Runner, for tools that do not train."""
import argparse

from mmaction.registry import MODELS
from mmengine.config import Config
from torch import nn

from mmaction_tokenreduce.engine.user_errors import ConfigError
from mmaction_tokenreduce.evaluation import default_input_shape


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


def clip_shape(args: argparse.Namespace, config: Config) -> tuple[int, ...]:
    """The size (C, T, H, W) that was asked for, or the config's own.

    Raises:
        ConfigError: If a size is below 1, or the config has none.
    """
    if args.shape is not None:
        if min(args.shape) < 1:
            raise ConfigError('--shape takes four sizes C T H W of at least 1, got '
                              + ' '.join(map(str, args.shape)))
        return tuple(args.shape)
    try:
        return default_input_shape(config)
    except ValueError as error:
        raise ConfigError(f'config file {args.config}: {error}') from error
