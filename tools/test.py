# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Test a checkpoint: python tools/test.py CONFIG CHECKPOINT (see --help)."""
import _checkout  # noqa: F401, I001

from mmaction_tokenreduce.engine.cli import test

if __name__ == '__main__':
    test()
