# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Ways to select, compared at the same budget on the demo's data, over several seeds.

For each seed a dense model is trained, and from it one model for each way; the table
gives top-1 of each (STTS, Tables 1 and 6, in small). Results are written after every
run, so that an interrupted comparison goes on where it stopped.
"""
import _checkout  # noqa: F401, I001

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import init_default_scope

from _model import build_model
from mmaction_tokenreduce.engine.user_errors import ConfigError, report_mistakes
from mmaction_tokenreduce.evaluation import (
    count_complexity,
    default_input_shape,
    recognizer_forward,
)
from mmaction_tokenreduce.whole_file import whole_file

from run_demo import DATA, ROOT, SCORE, StepFailed, config_file, run

import torch

RUNS = Path('work_dirs/compare_selection')
WAYS = {
    'dense': 'dense',
    'frames_stts': '3 of 8 frames: learned',
    'frames_gumbel': '3 of 8 frames: Gumbel-softmax',
    'frames_uniform': '3 of 8 frames: uniform',
    'frames_random': '3 of 8 frames: random',
    'regions_stts': '4x4 of 8x8 places: learned, anchors',
    'regions_anchor_score': '4x4 of 8x8 places: learned, anchors, mean features',
    'regions_token': '16 of 8x8 places: learned, no anchors',
    'regions_random': '4x4 of 8x8 places: random anchors',
}


def parser() -> argparse.ArgumentParser:
    """The options of tools/compare_selection.py."""
    result = argparse.ArgumentParser(prog='compare_selection.py', description=__doc__)
    result.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2],
                        help='seeds of initialisation, order and noise')
    result.add_argument('--ways', nargs='+', default=list(WAYS), choices=list(WAYS),
                        help='which to train and test; dense is always among them')
    return result


def last_checkpoint(name: str, folder: Path) -> Path:
    epochs = Config.fromfile(ROOT / config_file(name)).train_cfg.max_epochs
    return folder / name / f'epoch_{epochs}.pth'


def train_and_test(name: str, seed: int) -> float:
    """Top-1 of one way; trains it unless its last checkpoint is there."""
    folder = RUNS / f'seed_{seed}'
    made = last_checkpoint(name, folder)
    config = Config.fromfile(ROOT / config_file(name))
    title = f'seed {seed}, {WAYS[name]}'
    if not (ROOT / made).is_file():
        loader = config.train_dataloader
        videos = (ROOT / loader.dataset.ann_file).read_text().count('\n')
        steps = videos // loader.batch_size * config.train_cfg.max_epochs
        options = ['--work-dir', str(folder / name), '--seed', str(seed)]
        if name != 'dense':
            parent = last_checkpoint('dense', folder)
            options += ['--cfg-options', f'load_from={parent}']
        run(['tools/train.py', str(config_file(name)), *options],
            folder / f'{name}_train.txt', title, steps)
    output = run(['tools/test.py', str(config_file(name)), str(made), '--work-dir',
                  str(folder / name / 'test'), '--cfg-options',
                  f'randomness.seed={seed}'], folder / f'{name}_test.txt', title)
    return float(SCORE.findall(output)[-1][1])


def compare(seeds: Sequence[int], ways: Sequence[str]) -> dict[str, dict[str, float]]:
    """Top-1 by way and seed; what is known from earlier runs is not run again."""
    path = ROOT / RUNS / 'results.json'
    results = json.loads(path.read_text()) if path.is_file() else {}
    for seed in seeds:
        for name in WAYS:
            known = results.setdefault(name, {})
            if name not in ('dense', *ways) or str(seed) in known:
                continue
            known[str(seed)] = train_and_test(name, seed)
            with whole_file(path) as part:
                part.write_text(json.dumps(results, indent=1))
    return results


def gflops(name: str) -> float:
    config = Config.fromfile(ROOT / config_file(name))
    model = build_model(config)
    clip = torch.zeros(1, *default_input_shape(config))
    return count_complexity(model, clip, recognizer_forward).gflops


def table(results: dict[str, dict[str, float]], seeds: Sequence[int]) -> str:
    """The comparison as a Markdown table."""
    lines = ['| selection | GFLOPs | mean top-1 | ' + ' | '.join(
        f'seed {seed}' for seed in seeds) + ' |', '| --- ' * (3 + len(seeds)) + '|']
    for name, label in WAYS.items():
        scores = [results.get(name, {}).get(str(seed)) for seed in seeds]
        if None in scores:
            continue
        cells = [label, f'{gflops(name):.4f}', f'{sum(scores) / len(scores):.3f}',
                 *(f'{score:.3f}' for score in scores)]
        lines.append('| ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    with report_mistakes():
        init_default_scope('mmaction')
        subprocess.run([sys.executable, 'tools/data/make_moving_shapes.py', str(DATA)],
                       cwd=ROOT, check=True)
        try:
            results = compare(args.seeds, args.ways)
        except StepFailed as error:
            raise ConfigError(str(error)) from error
    print(table(results, args.seeds))


if __name__ == '__main__':
    main()
