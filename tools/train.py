# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Train a model: python tools/train.py CONFIG (see --help)."""
import _checkout  # noqa: F401, I001

from mmaction_tokenreduce.engine.cli import train

if __name__ == '__main__':
    train()
