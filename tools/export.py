# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Write a config's model to one file: python tools/export.py CONFIG CHECKPOINT --out F

``model.onnx`` for ONNX runtimes, ``model.pt2`` for torch.export.load. docs/export.md
says what can be exported, and what not.
"""
import _checkout  # noqa: F401, I001

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from mmaction_tokenreduce import __version__
from mmaction_tokenreduce.engine.cli import EPILOG, load_config
from mmaction_tokenreduce.engine.user_errors import ConfigError, report_mistakes
from mmaction_tokenreduce.whole_file import whole_file
from mmengine.config import Config, DictAction
from torch import Tensor
from tqdm import tqdm

from _clips import load_weights
from _export import (NEEDED, ONNX, PARTS, PT2, Wrapped, check_repeats, classes_of,
                     compare, load, normalisation, redraw, require, trace, wrap, write)
from _model import build_model, clip_shape

# Inputs, and what the model computes from them.
Case = tuple[tuple[Tensor, ...], tuple[Tensor, ...]]

TOLERANCE = 1e-4
MIN_OPSET = 18  # what PyTorch's exporter is written for


def parser() -> argparse.ArgumentParser:
    """The options of tools/export.py."""
    result = argparse.ArgumentParser(
        prog='export.py', epilog=EPILOG,
        description='Write the model of a config, normalised clips (B, 3, T, H, W) to '
        'class logits, as ONNX or as a program of torch.export, and compare what the '
        'file computes with the model. Sizes and keep ratios are fixed in the file.')
    result.add_argument('config', help='config file')
    result.add_argument('checkpoint', help='checkpoint file, loaded weights-only; '
                        "'none' for random weights")
    result.add_argument('--out', required=True, nargs='+', metavar='FILE',
                        help='model.onnx, model.pt2 or both')
    result.add_argument('--part', choices=PARTS, default='model', help="of EVAD: the "
                        'whole detector, or the encoder alone (kept tokens, their '
                        'places, maps of the keyframe); model unless given')
    result.add_argument(
        '--shape', nargs=4, type=int, metavar=('C', 'T', 'H', 'W'),
        help='channels, frames, height and width of a clip; else what the test '
        'pipeline of the config gives')
    result.add_argument('--batch', type=int, default=1,
                        help='clips that the file takes at a time; 1 unless given')
    result.add_argument('--dynamic-batch', action='store_true',
                        help='leave the number of clips open')
    result.add_argument('--opset', type=int, help='version of the ONNX operators; '
                        f'{MIN_OPSET} unless given')
    result.add_argument('--optimize', action='store_true', help='let onnxscript fold '
                        'and fuse nodes before an ONNX file is written; runtimes do '
                        'so themselves when they load it')
    result.add_argument('--check', type=int, default=2, metavar='N', help='random '
                        'clips on which the file is compared with the model; 2 unless '
                        f'given. A difference above {TOLERANCE:g} fails, and leaves '
                        'no file')
    result.add_argument('--no-check', action='store_true', help='do not compare')
    result.add_argument('--seed', type=int, default=0,
                        help='of random weights and clips; 0 unless given')
    result.add_argument('--cfg-options', nargs='+', action=DictAction,
                        metavar='KEY=VALUE', help='changes to the config: a.b=1')
    return result


def check_options(args: argparse.Namespace) -> list[Path]:
    """The files to write; refuse options that do not go together.

    Raises:
        ConfigError: If some do not.
    """
    paths = list(map(Path, args.out))
    for path in paths:
        if path.suffix not in (ONNX, PT2):
            raise ConfigError(f'--out must name a {ONNX} or {PT2} file, got {path}')
    for name in ('batch', 'check'):
        if getattr(args, name) < 1:
            raise ConfigError(f'--{name} must be at least 1, got {getattr(args, name)}')
    if args.dynamic_batch and args.batch != 1:
        raise ConfigError(f'--dynamic-batch leaves the number of clips open, and '
                          f'--batch {args.batch} fixes it: give one of them')
    if all(path.suffix == PT2 for path in paths):
        for name in ('opset', 'optimize'):
            if getattr(args, name):
                raise ConfigError(f'--{name} is for {ONNX} files, --out names none')
        return paths
    if args.opset is not None and args.opset < MIN_OPSET:
        raise ConfigError(f'--opset must be at least {MIN_OPSET}, got {args.opset}')
    require(NEEDED['write'], 'writing ONNX')
    if not args.no_check:
        require(NEEDED['check'], 'comparing an ONNX file with the model (--no-check '
                'leaves that out)')
    return paths


def build(args: argparse.Namespace, config: Config) -> Wrapped:
    """The model with its weights, ready to be traced.

    Raises:
        ConfigError: If it cannot be exported, or the checkpoint does not fit.
        FileNotFoundError: If the checkpoint does not exist.
    """
    torch.manual_seed(args.seed)
    model = build_model(config)
    if args.checkpoint == 'none':
        redraw(model, args.seed)
    else:
        load_weights(model, args.checkpoint, args.config)
    wrapped = wrap(model, args.part, args.config)
    if not args.no_check:
        check_repeats(model)
    return wrapped


def describe(args: argparse.Namespace, wrapped: Wrapped,
             shape: Sequence[int]) -> dict[str, str]:
    """What is written beside the model: names to JSON values."""
    mean, std = normalisation(wrapped.model)
    values = dict(
        config=Path(args.config).name,
        checkpoint=Path(args.checkpoint).name,
        part=args.part,
        num_classes=classes_of(wrapped.model),
        mean=mean,
        std=std,
        shape=['batch' if args.dynamic_batch else args.batch, *shape],
        inputs=wrapped.input_names,
        outputs=wrapped.output_names,
        mmaction_tokenreduce=__version__)
    return {name: json.dumps(value) for name, value in values.items()}


def answers(args: argparse.Namespace, wrapped: Wrapped,
            shape: Sequence[int]) -> list[Case]:
    """What the model computes from random clips."""
    generator = torch.Generator().manual_seed(args.seed + 1)
    # Where the batch is open, another size than that of the trace.
    batch = 3 if args.dynamic_batch else args.batch
    cases = []
    for _ in tqdm(range(-(-args.check // batch)), 'eager', leave=False):
        inputs = wrapped.random_inputs(batch, shape, generator)
        with torch.no_grad():
            cases.append((inputs, wrapped(*inputs)))
    return cases


def check(wrapped: Wrapped, cases: Sequence[Case], written: Path, path: Path) -> None:
    """Compare what a file computes with what the model did.

    Args:
        wrapped: The model.
        cases: Inputs, and what the model computed from them.
        written: The file, not yet under its own name.
        path: That name.

    Raises:
        ConfigError: If they differ by more than the tolerance.
    """
    names, worst = wrapped.output_names, {}
    run = load(written, wrapped.input_names)
    for inputs, want in tqdm(cases, 'compare', leave=False):
        for name, value in compare(names, run(inputs), want):
            worst[name] = max(value, worst.get(name, 0.0))
    for name, value in worst.items():
        print(f'{path.name}, {name}: largest relative difference {value:.2g}',
              flush=True)
    wrong = [name for name, value in worst.items() if value > TOLERANCE]
    if wrong:
        raise ConfigError(
            f'{path} does not agree with the model within {TOLERANCE:g} in '
            f'{", ".join(wrong)}, and was not kept; a selection flips where scores tie '
            'up to rounding: try another --seed, or --no-check')


def main(argv: Sequence[str] | None = None) -> None:
    """Run tools/export.py.

    Args:
        argv: Options; the command line's unless given.

    Raises:
        SystemExit: With status 2, for a user's mistake.
    """
    args = parser().parse_args(argv)
    with report_mistakes():
        paths = check_options(args)
        config = load_config(args.config, args.cfg_options, ('model', ))
        shape = clip_shape(args, config)
        wrapped = build(args, config)
        generator = torch.Generator().manual_seed(args.seed)
        inputs = wrapped.random_inputs(args.batch, shape, generator)
        print(f'{args.config}: tracing clips of {"x".join(map(str, shape))} '
              '(C x T x H x W)', flush=True)
        program = trace(wrapped, inputs, args.dynamic_batch)
        cases = [] if args.no_check else answers(args, wrapped, shape)
        about = describe(args, wrapped, shape)
        for path in sorted(paths, key=lambda path: path.suffix == ONNX):  # slow ones
            with whole_file(path) as part:
                write(program, wrapped, part, args.opset or MIN_OPSET, args.optimize,
                      about)
                size = part.stat().st_size
                if cases:
                    check(wrapped, cases, part, path)
            print(f'{path}: {size / 2**20:.1f} MiB', flush=True)


if __name__ == '__main__':
    main()
