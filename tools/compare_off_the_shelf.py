# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What reducers cost a trained model that is not trained again, on the demo's data.

Dense models of the demo are trained, unless they are there, and tested once with each
reducer that has no parameters, at each share of tokens kept. Accuracies are written
after every test, so that an interrupted comparison goes on where it stopped.
"""
import _checkout  # noqa: F401, I001

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from tqdm import tqdm

import compare_merging
import compare_selection
from _clips import load_weights
from _compare import Comparison
from _model import build_model
from mmaction_tokenreduce.engine.user_errors import ConfigError, report_mistakes
from mmaction_tokenreduce.evaluation import (
    count_complexity,
    default_input_shape,
    recognizer_forward,
)
from mmaction_tokenreduce.whole_file import whole_file

from run_demo import DATA, ROOT, StepFailed

DRAWS = 3  # of strategies that draw anew for every batch; their accuracy is the mean
# Shares of the tokens that are kept, and the region of 8x8 places that has this share.
KEEPS = {0.75: (6, 8), 0.5: (4, 8), 0.25: (4, 4)}
SCORE = 'acc/top1'

RUNS = Path('work_dirs/compare_off_the_shelf')
# In the folder of the dense MViT, from which it starts.
CLASS_TOKEN = replace(compare_selection.COMPARISON, ways={
    'dense': 'dense', 'class_token': 'dense, with a class token'})

Way = Callable[[float], dict]  # a reducer's config for a share that is kept


@dataclass(frozen=True)
class Host:
    """A dense model and the reducers it is tested with.

    Attributes:
        title: In the table.
        comparison: The comparison that trains it.
        name: Its way in there.
        ways: Reducers by their label in the table.
    """
    title: str
    comparison: Comparison
    name: str
    ways: Mapping[str, Way]

    def config(self, way: str | None = None, keep: float = 1.0) -> Config:
        """The dense model's config, or that of the model with a reducer."""
        config = self.comparison.config(self.name)
        if way is not None:
            config.model.backbone.reducers = [self.ways[way](keep)]
        return config


def frames(before: int, strategy: str) -> Way:
    """Keep whole token frames."""
    return lambda keep: dict(type='TemporalSelection', before=before, keep=keep,
                             strategy=strategy)


def places(before: int, strategy: str, unit: str = 'anchor') -> Way:
    """Keep a region of each token frame, or as many of its places."""
    return lambda keep: dict(type='SpatialSelection', before=before,
                             anchor=KEEPS[keep], strategy=strategy, unit=unit)


def merges(before: int, scope: str) -> Way:
    """Merge tokens by ToMe's matching."""
    return lambda keep: dict(type='TokenMerging', before=before, ratio=1 - keep,
                             scope=scope, strategy='bipartite')


def prunes(unified: bool, **place: int) -> Way:
    """Drop the tokens that receive least attention; at random where ``before``."""
    strategy = 'random' if 'before' in place else 'attention'
    return lambda keep: dict(type='KeyframePruning', keep=keep, unified=unified,
                             strategy=strategy, **place)


def _mvit_ways(strategies: Sequence[str]) -> dict[str, Way]:
    """Selection before block 1 of 4, on 8 token frames of 8x8 places."""
    names = dict(uniform='at equal distance', random='at random',
                 cls_attention='by class attention')
    ways = {f'frames {names[key]}': frames(1, key) for key in strategies}
    ways |= {f'region {names[key]}': places(1, key) for key in strategies
             if key != 'uniform'}
    return ways | {f'single places {names[key]}': places(1, key, 'token')
                   for key in strategies if key != 'uniform'}


HOSTS = {
    'vit': Host('ViT (VideoMAE), in layer 2 of 4', compare_merging.COMPARISON, 'dense',
                {
                    'frames at equal distance': frames(2, 'uniform'),
                    'frames at random': frames(2, 'random'),
                    'region at random': places(2, 'random'),
                    'single places at random': places(2, 'random', 'token'),
                    'merging in frames (ToMe)': merges(2, 'frame'),
                    'merging in the clip (ToMe)': merges(2, 'clip'),
                    'pruning by attention, unified': prunes(True, within=2),
                    'pruning by attention, keyframe spared': prunes(False, within=2),
                    'pruning at random, unified': prunes(True, before=2),
                }),
    'mvit': Host('MViT, before block 1 of 4', compare_selection.COMPARISON, 'dense',
                 _mvit_ways(('uniform', 'random'))),
    'mvit_class_token': Host(
        'MViT with a class token, before block 1 of 4', CLASS_TOKEN, 'class_token',
        _mvit_ways(('uniform', 'random', 'cls_attention'))),
}
# A keyframe is 1 of the ViT's 4 token frames: spared, it alone would be left.
IMPOSSIBLE = {('vit', 'pruning by attention, keyframe spared', 0.25)}

Results = dict[str, float]  # accuracy by the key of a test


def key_of(host: str, seed: int, way: str, keep: float) -> str:
    """What a test is called in the file of results."""
    return f'{host}, seed {seed}: {way}, {keep}'


def draws_anew(config: Config) -> bool:
    """Whether a model's reducer draws other tokens whenever it is run."""
    reducer, = config.model.backbone.reducers
    return (reducer.strategy == 'random'
            and reducer.type in ('TemporalSelection', 'SpatialSelection'))


def accuracy(config: Config, checkpoint: str, batches: Sequence[Mapping[str, Any]],
             draws: int = 1) -> float:
    """Top-1 of a config's model with the weights of a checkpoint, which must be all.

    Args:
        config: The config.
        checkpoint: The file.
        batches: Of its test dataloader.
        draws: How many tests it is the mean of.

    Raises:
        ConfigError: If the checkpoint lacks a weight of the model or has another.
    """
    model = build_model(config).eval()
    load_weights(model, checkpoint, str(config.filename))
    scores = []
    for draw in range(draws):
        torch.manual_seed(draw)
        evaluator = Evaluator(config.test_evaluator)
        with torch.inference_mode():
            for batch in batches:
                evaluator.process(model.test_step(batch), batch)
        length = sum(len(batch['data_samples']) for batch in batches)
        scores.append(evaluator.evaluate(length)[SCORE])
    return sum(scores) / draws


def gflops(config: Config) -> float:
    """Of one clip through a config's model."""
    clip = torch.zeros(1, *default_input_shape(config))
    return count_complexity(build_model(config), clip, recognizer_forward).gflops


def tests_of(host: str, keeps: Sequence[float]) -> Iterator[tuple[str, float]]:
    """The tests of a host: way and share that is kept."""
    for way in HOSTS[host].ways:
        for keep in keeps:
            if (host, way, keep) not in IMPOSSIBLE:
                yield way, keep


def compare(hosts: Sequence[str], seeds: Sequence[int],
            keeps: Sequence[float]) -> Results:
    """Train what is missing and run the tests of which no result is known.

    Returns:
        All results, also those of earlier calls.

    Raises:
        StepFailed: If a training fails; results up to there are kept.
    """
    path = ROOT / RUNS / 'off_the_shelf.json'
    results = json.loads(path.read_text()) if path.is_file() else {}
    for host in hosts:
        for seed in seeds:
            made = HOSTS[host].comparison
            name = HOSTS[host].name
            results[key_of(host, seed, 'dense', 1.0)] = made.compare(
                [seed], [name])[name][str(seed)]
            missing = [test for test in tests_of(host, keeps)
                       if key_of(host, seed, *test) not in results]
            if not missing:
                continue
            loader = HOSTS[host].config().test_dataloader
            batches = list(Runner.build_dataloader(loader))  # decoded once
            for way, keep in tqdm(missing, desc=f'{host}, seed {seed}', unit='test'):
                config = HOSTS[host].config(way, keep)
                results[key_of(host, seed, way, keep)] = accuracy(
                    config, str(ROOT / made.last_checkpoint(name, seed)), batches,
                    DRAWS if draws_anew(config) else 1)
                with whole_file(path) as part:
                    part.write_text(json.dumps(results, indent=1))
    return results


def table(host: str, results: Results, seeds: Sequence[int],
          keeps: Sequence[float]) -> str:
    """The results of a host in Markdown, each the mean over seeds, with GFLOPs."""
    def cell(way: str, keep: float, config: Config) -> str:
        scores = [results[key_of(host, seed, way, keep)] for seed in seeds]
        return f'{sum(scores) / len(scores):.3f} ({gflops(config):.4f})'

    made = HOSTS[host]
    header = ' | '.join(f'keeps {keep}' for keep in keeps)
    lines = [f'| {made.title} | {header} |',
             '| --- ' * (1 + len(keeps)) + '|',
             f'| dense | {cell("dense", 1.0, made.config())} |'
             + ' |' * (len(keeps) - 1)]
    there = set(tests_of(host, keeps))
    for way in made.ways:
        cells = [cell(way, keep, made.config(way, keep)) if (way, keep) in there else
                 '-' for keep in keeps]
        lines.append(f'| {way} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def parser() -> argparse.ArgumentParser:
    """The options of tools/compare_off_the_shelf.py."""
    result = argparse.ArgumentParser(prog='compare_off_the_shelf.py',
                                     description=__doc__)
    result.add_argument('--hosts', nargs='+', choices=list(HOSTS), default=list(HOSTS),
                        help='which dense models')
    result.add_argument('--seeds', nargs='+', type=int, default=[0],
                        help='of the dense models; accuracies are the mean')
    result.add_argument('--keeps', nargs='+', type=float, choices=list(KEEPS),
                        default=list(KEEPS), help='shares of the tokens that are kept')
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Make the data, run what is missing, print a table for each host.

    Args:
        argv: Options; the command line's unless given.
    """
    args = parser().parse_args(argv)
    with report_mistakes():
        init_default_scope('mmaction')  # whose registries the configs' names are in
        subprocess.run([sys.executable, 'tools/data/make_moving_shapes.py', str(DATA)],
                       cwd=ROOT, check=True)
        try:
            results = compare(args.hosts, args.seeds, args.keeps)
        except StepFailed as error:
            raise ConfigError(str(error)) from error
    print('\n\n'.join(table(host, results, args.seeds, args.keeps)
                      for host in args.hosts))


if __name__ == '__main__':
    main()
