# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Parameters and GFLOPs of a config's model: python tools/get_flops.py CONFIG.

One multiply-add is 1, one view, batch 1. What is counted, and by which convention, is
said in mmaction_tokenreduce/evaluation/flop_handles.py.
"""
import _checkout  # noqa: F401, I001

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence

import torch
from mmaction_tokenreduce.engine.cli import EPILOG, load_config
from mmaction_tokenreduce.engine.user_errors import ConfigError, report_mistakes
from mmaction_tokenreduce.evaluation import (Complexity, count_complexity,
                                             recognizer_forward)
from mmaction_tokenreduce.models import EVAD
from mmaction.models.recognizers import MMRecognizer3D, Recognizer3D
from mmengine.config import Config, DictAction

from _model import build_model, clip_shape

Shape = tuple[int, int, int, int]


def parser() -> argparse.ArgumentParser:
    """The options of tools/get_flops.py."""
    result = argparse.ArgumentParser(
        prog='get_flops.py', epilog=EPILOG,
        description='Count the parameters and GFLOPs of a model, in total and by part: '
        'one multiply-add is 1, one view, batch 1.')
    result.add_argument('config', help='config file')
    result.add_argument(
        '--shape', nargs=4, type=int, metavar=('C', 'T', 'H', 'W'),
        help='channels, frames, height and width of the view; else what the test '
        'pipeline of the config gives')
    result.add_argument(
        '--depth', type=int, default=2,
        help='how many levels of submodules are parts; 2 unless given')
    result.add_argument(
        '--json', action='store_true',
        help='print one JSON object: shape, params, gflops, parts, operators (GFLOPs '
        'by kind of operation), not_counted (calls by operation) and, if there is any, '
        'apart (GFLOPs that published figures leave out)')
    result.add_argument('--cfg-options', nargs='+', action=DictAction,
                        metavar='KEY=VALUE', help='changes to the config: a.b=1')
    return result


def count(config: Config, shape: Shape, path: str, depth: int) -> Complexity:
    """Build the model of a config and count one view of the given size.

    On the ``meta`` device, which takes no arithmetic; a model that cannot be there,
    because it looks at values, runs once for real.

    Raises:
        ConfigError: If ``depth`` is below 1, or the model is no 3D recogniser or EVAD,
            or cannot take this size.
    """
    if depth < 1:
        raise ConfigError(f'--depth must be at least 1, got {depth}')
    model = build_model(config)
    if not isinstance(model, Recognizer3D | MMRecognizer3D | EVAD):
        raise ConfigError(f'config file {path}: model.type={config.model.type}: only '
                          'Recognizer3D, MMRecognizer3D, EVAD and their subclasses '
                          'can be counted')
    clip = torch.empty(1, *shape, device='meta')
    with contextlib.suppress(Exception):
        return count_complexity(model.to('meta'), clip, recognizer_forward, depth)
    model, clip = build_model(config), torch.zeros(1, *shape)
    try:
        return count_complexity(model, clip, recognizer_forward, depth)
    except Exception as error:
        raise ConfigError(
            f'the model of {path} cannot take one view of {_size(shape)} (C x T x H x '
            f'W): {type(error).__name__}: {error}') from error


def _size(shape: Shape) -> str:
    return 'x'.join(map(str, shape))


def main(argv: Sequence[str] | None = None) -> None:
    """Run tools/get_flops.py.

    Args:
        argv: Options; the command line's unless given.

    Raises:
        SystemExit: With status 2, for a user's mistake.
    """
    args = parser().parse_args(argv)
    # What is built may print; stdout is for the result.
    with report_mistakes(), contextlib.redirect_stdout(sys.stderr):
        config = load_config(args.config, args.cfg_options, ('model', ))
        shape = clip_shape(args, config)
        result = count(config, shape, args.config, args.depth)
    if args.json:
        print(json.dumps(dict(shape=list(shape), **result.as_dict()), indent=2))
    else:
        print(f'{args.config}, one view of {_size(shape)} (C x T x H x W), one '
              f'multiply-add = 1\n\n{result.table()}')


if __name__ == '__main__':
    main()
