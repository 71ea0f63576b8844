# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""The time of loading a sample as a config's test pipeline does, without a model."""
import _checkout  # noqa: F401, I001

from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

import torch
from mmaction.registry import DATASETS
from mmengine.config import Config

from _clips import read_clips
from mmaction_tokenreduce.engine.cli import check_lists
from mmaction_tokenreduce.engine.user_errors import ConfigError
from mmaction_tokenreduce.evaluation import Spread, time_in_turns

Loader = Callable[[], int]  # loads one sample; how many views it has


def video_loader(config: Config, path: str, video: str, with_motion: bool) -> Loader:
    """Loads the same video every time; see ``read_clips``."""
    return lambda: len(read_clips(config, path, video, with_motion))


def dataset_loader(config: Config, path: str) -> Loader:
    """Loads one sample of the test data after another.

    Raises:
        ConfigError: If the config has no test data.
        FileNotFoundError: If they are not there.
    """
    dataset = (config.get('test_dataloader') or {}).get('dataset')
    if not dataset:
        raise ConfigError(f'config file {path} has no test_dataloader.dataset; give '
                          '--data a VIDEO')
    check_lists(config, ('test_dataloader', ))
    scope = config.get('default_scope') or 'mmaction'
    samples = DATASETS.build({'_scope_': scope, **dataset})
    numbers = count()

    def load() -> int:
        inputs = samples[next(numbers) % len(samples)]['inputs']
        inputs = inputs['imgs'] if isinstance(inputs, Mapping) else inputs
        return len(inputs) if inputs.ndim == 5 else 1  # (V, C, T, H, W), or of one clip

    return load


def measure_loading(loaders: Mapping[str, Loader], turns: int) -> dict[str, Any]:
    """Samples a second of each loader in one process, in turns.

    Returns:
        By name ``ms`` and ``ms_quartiles`` of a sample, ``samples_per_s``, and
        ``views`` of the first sample.
    """
    views = {name: load() for name, load in loaders.items()}  # mistakes show here
    seconds = time_in_turns(loaders, turns, torch.device('cpu'), title='data')
    rows = {}
    for name, values in seconds.items():
        spread = Spread.of(values, 1e3)
        rows[name] = dict(ms=spread.median, ms_quartiles=spread.quartiles,
                          samples_per_s=1e3 / spread.median, views=views[name])
    return rows
