# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Time and memory of models, in turns in one run: python tools/benchmark.py CONFIG ...

Every turn runs each model once, so that a machine that slows down slows all of them
alike; ratios are medians over turns of the paired ratio to the first model, and stand
beside those that GFLOPs promise. Timed is inference or, with --train, a training step:
a forward and backward pass and the optimiser's update. --floor times in the same turns
the matrix products of each model alone. Weights and clips are random: the time does not
depend on them. Memory, the shares of reducers and of a detector's parts, and data
loading are measured in turns of their own.
"""
import _checkout  # noqa: F401, I001

import argparse
import contextlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backend_bases import FigureCanvasBase
from mmengine.config import DictAction
from tqdm import tqdm

from _benchmark_report import as_table, draw, known_accuracies
from _loading import dataset_loader, measure_loading, video_loader
from _steps import WARM_UP, Subject, Task, peaks_of
from get_flops import count
from mmaction.models.recognizers import MMRecognizer3D
from mmaction_tokenreduce.engine.cli import EPILOG
from mmaction_tokenreduce.engine.user_errors import ConfigError, report_mistakes
from mmaction_tokenreduce.evaluation import (
    MatrixProducts,
    Spread,
    busy_warning,
    describe_machine,
    ratios,
    time_in_turns,
    time_shares,
)
from mmaction_tokenreduce.whole_file import whole_file


def parser() -> argparse.ArgumentParser:
    """The options of tools/benchmark.py."""
    result = argparse.ArgumentParser(
        prog='benchmark.py', epilog=EPILOG,
        description='Time models in turns, inference or training steps, and measure '
        'the memory that they take.')
    result.add_argument('configs', nargs='+', metavar='CONFIG', help='config files; '
                        'ratios are to the first')
    result.add_argument('--train', action='store_true',
                        help='time training steps instead of inference')
    result.add_argument('--batch', type=int, nargs='+', default=[1], metavar='N',
                        help='clips in a batch; several sizes, one after the other')
    result.add_argument('--turns', type=int, default=15, help='runs of each model')
    result.add_argument('--shape', nargs=4, type=int, metavar=('C', 'T', 'H', 'W'),
                        help="size of a clip; else what each config's test pipeline "
                        'gives')
    result.add_argument('--actors', type=int, default=3,
                        help='actors in a clip that a detector is trained on')
    result.add_argument('--device', default='cpu', choices=['cpu', 'cuda'],
                        help='where to run')
    result.add_argument('--amp', action='store_true', help='mixed precision: float16 '
                        'on CUDA, bfloat16 on the CPU')
    result.add_argument('--floor', action='store_true', help="time each model's matrix "
                        'products alone in the same turns')
    result.add_argument('--no-memory', action='store_true',
                        help='leave out the memory, which takes a process for each '
                        'model')
    result.add_argument('--data', nargs='?', const='', metavar='VIDEO',
                        help='time loading, too: of a video file as the test pipelines '
                        "do it, or without VIDEO of each config's test data")
    result.add_argument('--accuracy', nargs='+', metavar='NAME=VALUE',
                        help='accuracies to show, by name of the config file without '
                        'its ending; else those of the metafile.yml beside each config')
    result.add_argument('--json', nargs='?', const='-', metavar='FILE',
                        help='write one JSON object to FILE, or print it')
    result.add_argument('--plot', metavar='FILE', help='draw time against GFLOPs, and '
                        'accuracy against time; .png, .pdf or .svg')
    result.add_argument('--cfg-options', nargs='+', action=DictAction,
                        metavar='KEY=VALUE', help='changes to every config: a.b=1')
    return result


def check(args: argparse.Namespace) -> None:
    """Refuse options that cannot be served, before anything is built.

    Raises:
        ConfigError: If there are such.
    """
    for name in ('turns', 'batch', 'actors'):
        if np.min(getattr(args, name)) < 1:
            raise ConfigError(f'--{name} takes numbers of at least 1, got '
                              f'{getattr(args, name)}')
    if args.shape is not None and min(args.shape) < 1:
        raise ConfigError(f'--shape takes sizes of at least 1, got {args.shape}')
    if len({Path(path).stem for path in args.configs}) < len(args.configs):
        raise ConfigError('two configs of the same name')
    if len(set(args.batch)) < len(args.batch):
        raise ConfigError(f'--batch takes each size once, got {args.batch}')
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise ConfigError('--device cuda: this machine has no CUDA device')
    kinds = FigureCanvasBase.get_supported_filetypes()
    if args.plot and Path(args.plot).suffix[1:] not in kinds:
        raise ConfigError(f'--plot {args.plot}: the file must end in one of '
                          f'{", ".join("." + kind for kind in sorted(kinds))}')


def benchmark(args: argparse.Namespace) -> dict[str, Any]:
    """Measure; see the module's docstring.

    Raises:
        ConfigError: If an option or a config cannot be used.
    """
    check(args)
    paths = {Path(path).stem: path for path in args.configs}
    accuracy = known_accuracies(paths, args.accuracy)
    task = Task(args.device, args.train, args.amp, args.actors, args.shape,
                args.cfg_options)
    machine = describe_machine(torch.device(args.device))
    if (warning := busy_warning(machine)) is not None:
        print(f'warning: {warning}', file=sys.stderr)
    subjects = {name: Subject(path, task) for name, path in paths.items()}
    gflops = {name: count(subject.config, subject.shape, paths[name], 1).gflops
              for name, subject in subjects.items()}
    data = {} if args.data is None else measure_loading(
        {name: video_loader(subject.config, paths[name], args.data,
                            isinstance(subject.model, MMRecognizer3D))
         if args.data else dataset_loader(subject.config, paths[name])
         for name, subject in subjects.items()}, args.turns)
    rows = [row for batch in args.batch
            for row in measure(subjects, gflops, batch, args)]
    del subjects
    if not args.no_memory:
        add_memory(rows, paths, task)
    return dict(task='training step' if args.train else 'inference', machine=machine,
                warning=warning, turns=args.turns, accuracy=accuracy, rows=rows,
                data=data)


def measure(subjects: Mapping[str, Subject], gflops: Mapping[str, float], batch: int,
            args: argparse.Namespace) -> list[dict[str, Any]]:
    """Times of all models for one batch size, a row for each."""
    device, first = torch.device(args.device), next(iter(subjects))
    steps = {name: subject.step(batch) for name, subject in subjects.items()}
    calls, rows = {(name, 'model'): step for name, step in steps.items()}, {}
    for name, subject in subjects.items():
        products = MatrixProducts(steps[name], subject.model.parameters())
        rows[name] = dict(
            model=name, batch=batch, shape=list(subject.shape),
            precision=subject.precision, gflops=gflops[name],
            gflops_promise=gflops[first] / gflops[name],
            fused_attention=products.fused_attention)
        if args.floor:
            calls[name, 'floor'] = products
            rows[name]['products'] = products.calls
    seconds = time_in_turns(calls, args.turns, device, WARM_UP - 1, f'batch {batch}')
    for name, row in rows.items():
        add_times(row, seconds[name, 'model'], seconds[first, 'model'])
        if args.floor:
            add_floor(row, seconds[name, 'floor'], seconds[first, 'floor'])
        shares = {} if args.train else time_shares(
            steps[name], subjects[name].parts(), max(args.turns // 2, 3), device)
        row.update(selector_share=shares.pop('reducers', None), part_shares=shares)
    return list(rows.values())


def add_times(row: dict[str, Any], seconds: Sequence[float],
              first: Sequence[float]) -> None:
    """Write into a row what its turns took, beside those of the first model."""
    spread, faster = Spread.of(seconds, 1e3), ratios(first, seconds)
    row.update(ms=spread.median, ms_quartiles=spread.quartiles,
               clips_per_s=1e3 * row['batch'] / spread.median,
               times_as_fast=faster.median, times_as_fast_quartiles=faster.quartiles,
               promise_reached=faster.median / row['gflops_promise'])


def add_floor(row: dict[str, Any], seconds: Sequence[float],
              first: Sequence[float]) -> None:
    """Write into a row what its products took, beside those of the first model."""
    faster = ratios(first, seconds).median
    row.update(floor_ms=Spread.of(seconds, 1e3).median, floor_times_as_fast=faster,
               floor_reached=faster / row['gflops_promise'])


def add_memory(rows: Sequence[dict[str, Any]], paths: Mapping[str, str],
               task: Task) -> None:
    """Write into the rows what their steps take, and its share of the first's."""
    batches = list(dict.fromkeys(row['batch'] for row in rows))
    first: dict[int, float] = {}
    for name, path in tqdm(paths.items(), 'memory', unit='model', disable=None):
        peaks = dict(zip(batches, peaks_of(path, task, batches), strict=True))
        first = first or peaks
        for row in rows:
            if row['model'] == name:
                peak = peaks[row['batch']]
                row.update(mb=peak, share_of_memory=peak / first[row['batch']])


def main(argv: Sequence[str] | None = None) -> None:
    """Run tools/benchmark.py.

    Args:
        argv: Options; the command line's unless given.

    Raises:
        SystemExit: With status 2, for a user's mistake.
    """
    args = parser().parse_args(argv)
    # What is built may print; stdout is for the result.
    with report_mistakes(), contextlib.redirect_stdout(sys.stderr):
        result = benchmark(args)
        if args.json not in (None, '-'):
            with whole_file(args.json) as part:
                part.write_text(json.dumps(result, indent=1) + '\n')
        if args.plot:
            draw(result, args.plot)
    print(json.dumps(result) if args.json == '-' else as_table(result))


if __name__ == '__main__':
    main()
