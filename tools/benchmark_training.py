# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Time and peak memory of training steps: python tools/benchmark_training.py CONFIG ...

A step is a forward and backward pass of detectors on the same clips, with actors, and
the optimiser's update. Every turn runs a step of each model; ratios are medians over
turns of the paired ratio to the first. Memory is measured for each model in a process
of its own: the highest that a step takes above weights, gradients and the optimiser's
state, which are there before it.
"""
import _checkout  # noqa: F401, I001

import argparse
import ctypes
import gc
import json
import logging
import platform
import statistics
import time
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path

import torch
from mmaction.structures import ActionDataSample
from mmengine.config import Config, DictAction
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import Tensor, nn

from _model import build_model
from mmaction_tokenreduce.engine.cli import EPILOG, load_config
from mmaction_tokenreduce.engine.user_errors import ConfigError, report_mistakes
from mmaction_tokenreduce.evaluation import default_input_shape
from mmaction_tokenreduce.models import EVAD

Batch = tuple[Tensor, list[ActionDataSample]]


def parser() -> argparse.ArgumentParser:
    """The options of tools/benchmark_training.py."""
    result = argparse.ArgumentParser(
        prog='benchmark_training.py', epilog=EPILOG,
        description='Time training steps of detectors in turns, and measure the '
        'memory that they take.')
    result.add_argument('configs', nargs='+', metavar='CONFIG', help='config files; '
                        'ratios are to the first')
    result.add_argument('--turns', type=int, default=5, help='steps of each model')
    result.add_argument('--batch', type=int, default=2, help='clips in a batch')
    result.add_argument('--actors', type=int, default=3, help='actors in a clip')
    result.add_argument('--shape', nargs=4, type=int, metavar=('C', 'T', 'H', 'W'),
                        help="size of a clip; else what the first config's test "
                        'pipeline gives')
    result.add_argument('--device', default='cpu', choices=['cpu', 'cuda'],
                        help='where to run')
    result.add_argument('--no-memory', action='store_true', help='measure time alone')
    result.add_argument('--json', action='store_true', help='print one JSON object')
    result.add_argument('--cfg-options', nargs='+', action=DictAction,
                        metavar='KEY=VALUE', help='changes to every config: a.b=1')
    return result


def prepare(config: Config, device: str) -> tuple[nn.Module, OptimWrapper]:
    """A model to train and its optimiser.

    Raises:
        ConfigError: If it is no detector.
    """
    model = build_model(config)
    if not isinstance(model, EVAD):
        raise ConfigError(f'model.type={config.model.type}: only EVAD is trained here')
    model.to(device).train()
    logging.disable(logging.INFO)  # mmengine writes a line for each parameter
    try:
        with DefaultScope.overwrite_default_scope('mmaction'):
            return model, build_optim_wrapper(model, config.optim_wrapper)
    finally:
        logging.disable(logging.NOTSET)


def make_batch(model: EVAD, shape: Sequence[int], args: argparse.Namespace) -> Batch:
    """Clips of noise, with boxes and labels at random."""
    torch.manual_seed(0)
    clips = torch.randn(args.batch, *shape, device=args.device)
    scale = torch.tensor([shape[3], shape[2]], device=args.device)
    samples = []
    for _ in range(args.batch):
        low = torch.rand(args.actors, 2, device=args.device) * 0.6 * scale
        boxes = torch.cat((low, low + 0.4 * scale), 1)
        labels = torch.randint(1, model.action_head.num_classes + 1, (args.actors, ),
                               device=args.device)
        samples.append(ActionDataSample(
            gt_instances=InstanceData(bboxes=boxes, labels=labels)))
    return clips, samples


def step(model: nn.Module, wrapper: OptimWrapper, batch: Batch) -> float:
    """Seconds of one training step; gradients stay where they are."""
    start = time.perf_counter()
    losses = model(*batch, mode='loss')
    model.parse_losses(losses)[0].backward()
    wrapper.optimizer.step()
    wrapper.optimizer.zero_grad(set_to_none=False)
    if batch[0].device.type == 'cuda':
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak_megabytes(config: Config, shape: Sequence[int],
                   args: argparse.Namespace) -> float:
    """What a step takes above all that stays; call it in a fresh process."""
    model, wrapper = prepare(config, args.device)
    batch = make_batch(model, shape, args)
    for _ in range(2):  # makes gradients and the optimiser's state
        step(model, wrapper, batch)
    gc.collect()
    if args.device == 'cuda':
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(model, wrapper, batch)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    ctypes.CDLL(None).malloc_trim(0)  # what is free goes back to the system
    Path('/proc/self/clear_refs').write_text('5')  # the high-water mark starts anew
    before = _resident('VmRSS')
    step(model, wrapper, batch)
    return (_resident('VmHWM') - before) / 1024


def _resident(name: str) -> int:
    """A size of this process in KiB: VmRSS, or VmHWM, the highest so far."""
    return int(Path('/proc/self/status').read_text().split(f'{name}:')[1].split()[0])


def benchmark(args: argparse.Namespace) -> dict:
    """Measure; see the module's docstring.

    Raises:
        ConfigError: If an option is out of its range, or names repeat.
    """
    if min(args.batch, args.turns, args.actors) < 1:
        raise ConfigError('--batch, --turns and --actors take numbers of at least 1')
    if args.shape is not None and min(args.shape) < 1:
        raise ConfigError(f'--shape takes sizes of at least 1, got {args.shape}')
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise ConfigError('--device cuda: this machine has no CUDA device')
    configs = {Path(path).stem: load_config(path, args.cfg_options,
                                            ('model', 'optim_wrapper'))
               for path in args.configs}
    if len(configs) < len(args.configs):
        raise ConfigError('two configs of the same name')
    shape = tuple(args.shape or default_input_shape(next(iter(configs.values()))))
    models = {name: prepare(config, args.device) for name, config in configs.items()}
    batch = make_batch(next(iter(models.values()))[0], shape, args)
    seconds = {name: [] for name in models}
    for turn in range(-1, args.turns):
        for name, (model, wrapper) in models.items():
            spent = step(model, wrapper, batch)
            if turn >= 0:  # the first turn warms up
                seconds[name].append(spent)
    del models, model, wrapper
    first = next(iter(configs))
    rows = {name: dict(
        seconds=statistics.median(times),
        share_of_time=statistics.median(
            a / b for a, b in zip(times, seconds[first], strict=True)))
        for name, times in seconds.items()}
    if not args.no_memory:
        for name, config in configs.items():
            with get_context('spawn').Pool(1) as pool:
                rows[name]['mb'] = pool.apply(peak_megabytes, (config, shape, args))
            rows[name]['share_of_memory'] = rows[name]['mb'] / rows[first]['mb']
    return dict(machine=f'{platform.processor() or platform.machine()}, '
                f'{torch.get_num_threads()} threads, torch {torch.__version__}, '
                f'{args.device}', shape=[args.batch, *shape], turns=args.turns,
                models=rows)


def as_table(result: dict) -> str:
    """The measurements as text."""
    lines = ['x'.join(map(str, result['shape'])) + f', median of {result["turns"]} '
             f'turns; {result["machine"]}', '']
    for name, row in result['models'].items():
        line = (f'{name}: {row["seconds"]:.2f} s a step, share of time '
                f'{row["share_of_time"]:.3f}')
        if 'mb' in row:
            line += (f'; {row["mb"]:.0f} MiB above what stays, share of memory '
                     f'{row["share_of_memory"]:.3f}')
        lines.append(line)
    return '\n'.join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Run tools/benchmark_training.py.

    Args:
        argv: Options; the command line's unless given.

    Raises:
        SystemExit: With status 2, for a user's mistake.
    """
    args = parser().parse_args(argv)
    with report_mistakes():
        result = benchmark(args)
    print(json.dumps(result) if args.json else as_table(result))


if __name__ == '__main__':
    main()
