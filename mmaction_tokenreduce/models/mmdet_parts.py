# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Parts of mmdet, which is installed only where actors are to be detected.

mmdet looks nested types up in the default scope, which is mmaction's here: each part is
built in its own scope.
"""
from importlib.util import find_spec

from torch import nn

__all__ = ['build_part', 'build_task_part', 'require_mmdet']


def require_mmdet(what: str) -> None:
    """Say how mmdet is installed, where it is not.

    Args:
        what: Needs it.

    Raises:
        ImportError: If mmdet is not installed.
    """
    if find_spec('mmdet') is None:
        raise ImportError(f'{what} is built from parts of mmdet, which is not '
                          'installed: pip install "mmdet>=3.2,<3.4"')


def build_part(cfg: dict) -> nn.Module:
    """A model of mmdet's registry."""
    from mmdet.registry import MODELS
    return MODELS.build(dict(cfg, _scope_='mmdet'))


def build_task_part(cfg: dict) -> object:
    """An assigner or the like of mmdet."""
    from mmdet.registry import TASK_UTILS
    return TASK_UTILS.build(dict(cfg, _scope_='mmdet'))
