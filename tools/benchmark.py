# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Inference time of models, in turns in one run: python tools/benchmark.py CONFIG ...

Every turn runs each model once on the same clip, so that a machine that slows down
slows all of them alike; ratios are medians over turns of the paired ratio to the first
model. Weights are random: the time does not depend on them. The shares of the reducers
and of a detector's parts are measured in turns of their own, with timers around them.
"""
import _checkout  # noqa: F401, I001

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from mmengine.config import DictAction
from torch import Tensor, nn

from _model import build_model
from mmaction_tokenreduce.engine.cli import EPILOG, load_config
from mmaction_tokenreduce.engine.user_errors import ConfigError, report_mistakes
from mmaction_tokenreduce.evaluation import (
    count_complexity,
    default_input_shape,
    recognizer_forward,
)
from mmaction_tokenreduce.layers import GridReducer, KeyframePruning, TokenMerging
from mmaction_tokenreduce.models import EVAD


def parser() -> argparse.ArgumentParser:
    """The options of tools/benchmark.py."""
    result = argparse.ArgumentParser(
        prog='benchmark.py', epilog=EPILOG,
        description='Time the forward passes of models, in turns.')
    result.add_argument('configs', nargs='+', metavar='CONFIG', help='config files; '
                        'ratios are to the first')
    result.add_argument('--turns', type=int, default=15, help='runs of each model')
    result.add_argument('--batch', type=int, default=1, help='clips in a batch')
    result.add_argument('--shape', nargs=4, type=int, metavar=('C', 'T', 'H', 'W'),
                        help="size of a clip; else what the first config's test "
                        'pipeline gives')
    result.add_argument('--device', default='cpu', choices=['cpu', 'cuda'],
                        help='where to run')
    result.add_argument('--json', action='store_true', help='print one JSON object')
    result.add_argument('--cfg-options', nargs='+', action=DictAction,
                        metavar='KEY=VALUE', help='changes to every config: a.b=1')
    return result


def timed(model: nn.Module, clip: Tensor) -> float:
    """Seconds of one forward pass, the device's queue included."""
    _wait(clip.device)
    start = time.perf_counter()
    recognizer_forward(model, clip)
    _wait(clip.device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def time_shares(model: nn.Module, clip: Tensor, turns: int,
                groups: Mapping[str, Sequence[nn.Module]]) -> dict[str, float]:
    """Median shares of a forward pass that are spent in groups of modules.

    Args:
        model: Is run.
        clip: Its input.
        turns: Runs.
        groups: Modules by name; none of a group lies in another of it.
    """
    spent, handles = {}, []

    def timer(name: str, sign: int) -> Callable:
        def note(*_) -> None:
            _wait(clip.device)
            spent[name] += sign * time.perf_counter()
        return note

    for name, modules in groups.items():
        for module in modules:
            handles += [module.register_forward_pre_hook(timer(name, -1)),
                        module.register_forward_hook(timer(name, 1))]
    shares = {name: [] for name in groups}
    for _ in range(turns if handles else 0):
        spent.update(dict.fromkeys(groups, 0.0))
        total = timed(model, clip)
        for name in groups:
            shares[name].append(spent[name] / total)
    for handle in handles:
        handle.remove()
    return {name: statistics.median(values) if values else 0.0
            for name, values in shares.items()}


def groups_of(model: nn.Module) -> dict[str, list[nn.Module]]:
    """What is timed apart in a model: its reducers, and a detector's parts."""
    kinds = GridReducer | KeyframePruning | TokenMerging
    groups = dict(reducers=[m for m in model.modules() if isinstance(m, kinds)])
    if isinstance(model, EVAD):
        groups.update(encoder=[model.backbone],
                      localiser=[model.neck, model.localizer],
                      decoder=[model.action_head])
    return groups


def benchmark(args: argparse.Namespace) -> dict:
    """Measure; see the module's docstring.

    Raises:
        ConfigError: If there are fewer than one turn or clip, or names repeat.
    """
    if args.turns < 1 or args.batch < 1:
        raise ConfigError('--turns and --batch take numbers of at least 1, got '
                          f'{args.turns} and {args.batch}')
    configs = {Path(path).stem: load_config(path, args.cfg_options, ('model', ))
               for path in args.configs}
    if len(configs) < len(args.configs):
        raise ConfigError('two configs of the same name')
    if args.device.startswith('cuda') and not torch.cuda.is_available():
        raise ConfigError(f'--device {args.device}: this machine has no CUDA device')
    if args.shape is not None and min(args.shape) < 1:
        raise ConfigError(f'--shape takes sizes of at least 1, got {args.shape}')
    shape = tuple(args.shape or default_input_shape(next(iter(configs.values()))))
    device = torch.device(args.device)
    models = {name: build_model(cfg).eval().to(device) for name, cfg in configs.items()}
    clip = torch.randn(args.batch, *shape, device=device)
    costs = {name: count_complexity(model, clip[:1], recognizer_forward)
             for name, model in models.items()}
    seconds = {name: [] for name in models}
    with torch.inference_mode():
        for turn in range(-2, args.turns):
            for name, model in models.items():
                spent = timed(model, clip)
                if turn >= 0:  # the first turns warm up
                    seconds[name].append(spent)
        shares = {name: time_shares(model, clip, max(args.turns // 2, 3),
                                    groups_of(model))
                  for name, model in models.items()}
    first = next(iter(models))
    rows = {}
    for name in models:
        ratios = [a / b for a, b in zip(seconds[first], seconds[name], strict=True)]
        low, _, high = statistics.quantiles(seconds[name], n=4) \
            if args.turns > 1 else seconds[name] * 3
        rows[name] = dict(
            ms=1e3 * statistics.median(seconds[name]), ms_quartiles=[1e3 * low,
                                                                     1e3 * high],
            times_as_fast=statistics.median(ratios), gflops=costs[name].gflops,
            gflops_promise=costs[first].gflops / costs[name].gflops,
            selector_share=shares[name].pop('reducers'), part_shares=shares[name])
    return dict(machine=f'{platform.processor() or platform.machine()}, '
                f'{torch.get_num_threads()} threads, torch {torch.__version__}, '
                f'{device}', shape=[args.batch, *shape], turns=args.turns, models=rows)


def as_table(result: dict) -> str:
    """The measurements as text."""
    rows = [('model', 'ms', 'quartiles', 'times as fast', 'GFLOPs', 'GFLOPs promise',
             'reducers')]
    for name, row in result['models'].items():
        low, high = row['ms_quartiles']
        rows.append((name, f'{row["ms"]:.1f}', f'{low:.1f}-{high:.1f}',
                     f'{row["times_as_fast"]:.2f}', f'{row["gflops"]:.2f}',
                     f'{row["gflops_promise"]:.2f}', f'{row["selector_share"]:.1%}'))
    parts = sorted({part for row in result['models'].values()
                    for part in row['part_shares']}, reverse=True)
    for index, row in enumerate([dict(zip(parts, parts, strict=True)), *(
            {part: f'{row["ms"] * share:.1f} ms ({share:.1%})'
             for part, share in row['part_shares'].items()}
            for row in result['models'].values())]):
        rows[index] += tuple(row.get(part, '-') for part in parts)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ['  '.join(cell.ljust(width) if i == 0 else cell.rjust(width)
                       for i, (cell, width) in enumerate(zip(row, widths, strict=True)))
             for row in rows]
    shape = 'x'.join(map(str, result['shape']))
    head = f'{shape}, median of {result["turns"]} turns; {result["machine"]}'
    return '\n'.join([head, '', lines[0], '-' * len(lines[0]), *lines[1:]])


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    with report_mistakes():
        result = benchmark(args)
    print(json.dumps(result) if args.json else as_table(result))


if __name__ == '__main__':
    main()
