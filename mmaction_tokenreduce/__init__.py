# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Token selection, merging and pruning for the video transformers of MMAction2.

Importing the package mends what released mmaction2 and mmengine lack on today's torch
(``compat``) and registers hosts, datasets and hooks in mmaction's own registries.
Where mmaction is not installed, ``ops`` and ``layers`` work by themselves; a broken
mmaction raises its own error.
"""
from importlib.util import find_spec

__version__ = '0.1.0'

if find_spec('mmaction') is not None:
    from . import compat
    compat.apply()
    from . import datasets, engine, evaluation, models  # noqa: F401
