# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What the comparisons on the demo's data share: runs, kept results, the table.

A comparison trains and tests models of the demo ("ways", one config each) for several
seeds, all from scratch or all but one from that one, their parent. Results are written
after every run, so that an interrupted comparison goes on where it stopped.
"""
import _checkout  # noqa: F401, I001

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
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

from run_demo import METRICS, ROOT, StepFailed, run, score_of

Results = dict[str, dict[str, float]]  # score by way and seed


@dataclass(frozen=True)
class Comparison:
    """Ways to solve the demo's task, trained alike.

    Attributes:
        tool: File name of the tool; without its ending it names the folder of the
            runs, ``work_dirs/<tool>``.
        about: What it does, for ``--help``.
        ways: Label in the table by name, in the order in which they are run and
            listed. The config of a way is ``configs/demo/<prefix>_<name>.py``.
        prefix: The model family, the first part of the configs' names.
        heading: Of the table's first column.
        metric: What is compared, a key of METRICS.
        data: Its data set, which tools/data/make_<data>.py makes in data/<data>.
        parent: The way whose model of the same seed the others start from; it is
            run whichever ways are asked for. None: each starts as its config says.

    Raises:
        ValueError: If the parent is none of the ways, or not the first of them.
    """
    tool: str
    about: str
    ways: Mapping[str, str]
    prefix: str
    heading: str
    metric: str = 'acc/top1'
    data: str = 'moving_shapes'
    parent: str | None = None

    def __post_init__(self) -> None:
        if self.parent not in (None, next(iter(self.ways))):
            raise ValueError(f'{self.tool}: parent={self.parent!r}: must be the first '
                             f'of the ways, {next(iter(self.ways))!r}')

    @property
    def runs(self) -> Path:
        """Folder of all runs, below the checkout unless absolute."""
        return Path('work_dirs') / Path(self.tool).stem

    def config_file(self, name: str) -> Path:
        return Path('configs/demo') / f'{self.prefix}_{name}.py'

    def config(self, name: str) -> Config:
        return Config.fromfile(ROOT / self.config_file(name))

    def last_checkpoint(self, name: str, seed: int) -> Path:
        """Where the training of a way ends."""
        epochs = self.config(name).train_cfg.max_epochs
        return self.runs / f'seed_{seed}' / name / f'epoch_{epochs}.pth'

    def train_and_test(self, name: str, seed: int) -> float:
        """The score of one way; trains it unless its last checkpoint is there.

        Raises:
            StepFailed: If training or testing fails.
        """
        folder, made = self.runs / f'seed_{seed}', self.last_checkpoint(name, seed)
        title = f'seed {seed}, {self.ways[name]}'
        if not (ROOT / made).is_file():
            options = ['--work-dir', str(folder / name), '--seed', str(seed)]
            if self.parent not in (None, name):
                parent = self.last_checkpoint(self.parent, seed)
                options += ['--cfg-options', f'load_from={parent}']
            run(['tools/train.py', str(self.config_file(name)), *options],
                folder / f'{name}_train.txt', title,
                self.config(name).train_cfg.max_epochs)
        output = run(['tools/test.py', str(self.config_file(name)), str(made),
                      '--work-dir', str(folder / name / 'test'), '--cfg-options',
                      f'randomness.seed={seed}'], folder / f'{name}_test.txt', title)
        return score_of(output)

    def compare(self, seeds: Iterable[int], ways: Iterable[str]) -> Results:
        """Scores by way and seed; what is known from earlier runs is not run again.

        Raises:
            StepFailed: If a run fails; results up to there are kept.
        """
        path, asked = ROOT / self.runs / 'results.json', {self.parent, *ways}
        results = json.loads(path.read_text()) if path.is_file() else {}
        for seed in seeds:
            for name in self.ways:
                known = results.setdefault(name, {})
                if name not in asked or str(seed) in known:
                    continue
                known[str(seed)] = self.train_and_test(name, seed)
                with whole_file(path) as part:
                    part.write_text(json.dumps(results, indent=1))
        return results

    def gflops(self, name: str) -> float:
        """Of one clip through the model of a way."""
        config = self.config(name)
        clip = torch.zeros(1, *default_input_shape(config))
        return count_complexity(build_model(config), clip, recognizer_forward).gflops

    def table(self, results: Results, seeds: Sequence[int]) -> str:
        """The comparison in Markdown; ways that lack a seed are left out."""
        lines = [f'| {self.heading} | GFLOPs | mean {METRICS[self.metric]} | ' +
                 ' | '.join(f'seed {seed}' for seed in seeds) + ' |',
                 '| --- ' * (3 + len(seeds)) + '|']
        for name, label in self.ways.items():
            scores = [results.get(name, {}).get(str(seed)) for seed in seeds]
            if None in scores:
                continue
            cells = [label, f'{self.gflops(name):.4f}',
                     f'{sum(scores) / len(scores):.3f}',
                     *(f'{score:.3f}' for score in scores)]
            lines.append('| ' + ' | '.join(cells) + ' |')
        return '\n'.join(lines)

    def parser(self) -> argparse.ArgumentParser:
        """The options of the tool."""
        result = argparse.ArgumentParser(prog=self.tool, description=self.about)
        result.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2],
                            help='seeds of initialisation, order and noise')
        always = f'; {self.parent} is always among them' if self.parent else ''
        result.add_argument('--ways', nargs='+', default=list(self.ways),
                            choices=list(self.ways),
                            help=f'which to train and test{always}')
        return result

    def main(self, argv: Sequence[str] | None = None) -> None:
        """Make the data, run what is missing, print the table.

        Args:
            argv: Options; the command line's unless given.
        """
        args = self.parser().parse_args(argv)
        with report_mistakes():
            init_default_scope('mmaction')  # whose registries the configs' names are in
            subprocess.run([sys.executable, f'tools/data/make_{self.data}.py',
                            f'data/{self.data}'], cwd=ROOT, check=True)
            try:
                results = self.compare(args.seeds, args.ways)
            except StepFailed as error:
                raise ConfigError(str(error)) from error
        print(self.table(results, args.seeds))
