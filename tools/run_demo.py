# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""The demo (make demo): train and test a token-selecting MViT on real H.264 video.

Makes the data, trains a dense model, fine-tunes from it one that learns which frames
and regions to keep and one that draws them at random, tests all three, prints one table
and draws what the learned one keeps. Each step is a command that it prints, so that it
can be repeated alone. Checkpoints that are there already are not trained again.
"""
import _checkout  # noqa: F401, I001

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from mmaction.datasets import VideoDataset
from mmaction.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint
from tqdm import tqdm

from _model import build_model
from mmaction_tokenreduce.datasets.moving_shapes import CLASS_NAMES, TRUTH_FILE
from mmaction_tokenreduce.evaluation import (
    count_complexity,
    default_input_shape,
    recognizer_forward,
)
from mmaction_tokenreduce.visualization import (
    SelectionRow,
    SelectionTrace,
    plot_selection,
)

MODELS = {'dense': 'dense', 'stts': 'learned selection', 'random': 'random selection'}
ROOT = Path(__file__).resolve().parents[1]
PYTHON = os.path.relpath(sys.executable, ROOT)
DATA = Path('data/moving_shapes')
RUNS = Path('work_dirs/demo')
PICTURE = RUNS / 'kept.png'
STEP = re.compile(r'Epoch\(train\)\s+\[(\d+)\]\[\s*(\d+)/(\d+)\].* loss: ([\d.]+)')
METRICS = {'acc/top1': 'top-1', 'mAP/overall': 'frame mAP'}  # by key of the log
SCORE = re.compile(rf'Epoch\((val|test)\).*({"|".join(METRICS)}): ([\d.]+)')
PICTURED = (0, 3, 4, 6)  # classes with a row in the picture


class StepFailed(RuntimeError):
    """A command of the demo ended with an error; the message says where to look."""


def config_file(name: str) -> Path:
    return Path('configs/demo') / f'mvit_{name}.py'


def checkpoint(name: str) -> Path:
    """The last checkpoint of a model's training."""
    epochs = Config.fromfile(ROOT / config_file(name)).train_cfg.max_epochs
    return RUNS / f'mvit_{name}' / f'epoch_{epochs}.pth'


def run(command: list[str], log: Path, title: str, epochs: int = 0) -> str:
    """Run a Python command of the checkout; returns its output, which is also logged.

    Args:
        command: Script and arguments.
        log: Where all output goes.
        title: Shown before the progress bar.
        epochs: Of a training, for the bar; 0 shows none.

    Raises:
        StepFailed: If the command fails.
    """
    print(f'\n$ {PYTHON} {" ".join(command)}', flush=True)
    log = ROOT / log
    log.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    process = subprocess.Popen([sys.executable, *command], cwd=ROOT, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    with open(log, 'w') as file, tqdm(desc=title, unit='it',
                                      disable=not epochs) as bar:
        for line in process.stdout:
            file.write(line)
            lines.append(line)
            _show_progress(line, bar, epochs)
    if process.wait():
        raise StepFailed(f'{command[0]} ended with status {process.returncode}: '
                         f'{lines[-1].strip() if lines else "no output"} (see {log})')
    return ''.join(lines)


def score_of(output: str) -> float:
    """What the test in the output of a command arrived at."""
    return float(SCORE.findall(output)[-1][-1])


def _show_progress(line: str, bar: tqdm, epochs: int) -> None:
    step, score = STEP.search(line), SCORE.search(line)
    if step:
        epoch, done, length, loss = step.groups()
        bar.total = epochs * int(length)
        bar.set_postfix(loss=loss)
        bar.update((int(epoch) - 1) * int(length) + int(done) - bar.n)
    elif score and score[1] == 'val':
        bar.write(f'  validation {METRICS[score[2]]} {float(score[3]):.3f}')


def train(name: str) -> None:
    """Train a model, unless its last checkpoint is there and newer than its parent."""
    cfg = Config.fromfile(ROOT / config_file(name))
    made, parent = ROOT / checkpoint(name), cfg.get('load_from')
    if made.is_file() and (not parent or made.stat().st_mtime >
                           (ROOT / parent).stat().st_mtime):
        print(f'\n{checkpoint(name)} is there: not trained again '
              '(make clean removes it)')
        return
    folder = RUNS / f'mvit_{name}'
    run(['tools/train.py', str(config_file(name)), '--work-dir', str(folder)],
        folder / 'train.txt', f'training ({MODELS[name]})', cfg.train_cfg.max_epochs)


def test(name: str) -> float:
    """Top-1 of a trained model."""
    folder = RUNS / f'mvit_{name}'
    output = run(['tools/test.py', str(config_file(name)), str(checkpoint(name)),
                  '--work-dir', str(folder / 'test')], folder / 'test.txt', 'test')
    return score_of(output)


def load(name: str) -> torch.nn.Module:
    """A trained model in evaluation mode."""
    model = build_model(Config.fromfile(ROOT / config_file(name)))
    load_checkpoint(model, str(ROOT / checkpoint(name)), map_location='cpu',
                    logger='silent')
    return model.eval()


def load_clips(indices: list[int]) -> tuple[torch.Tensor, VideoDataset]:
    """Validation clips (B, 3, T, H, W) uint8, and their dataset."""
    cfg = Config.fromfile(ROOT / config_file('stts')).val_dataloader.dataset
    cfg.ann_file = str(ROOT / cfg.ann_file)
    cfg.data_prefix.video = str(ROOT / cfg.data_prefix.video)
    dataset = DATASETS.build(cfg)
    return torch.cat([dataset[i]['inputs'] for i in indices]), dataset


def normalize(model: torch.nn.Module, clips: torch.Tensor) -> torch.Tensor:
    preprocessor = model.data_preprocessor
    return (clips - preprocessor.mean) / preprocessor.std


def clips_per_second(models: dict[str, torch.nn.Module], turns: int = 15,
                     batch: int = 8) -> dict[str, float]:
    """Median throughput of the models, run in turns."""
    clips, _ = load_clips(list(range(batch)))
    seconds = {name: [] for name in models}
    with torch.inference_mode():
        for turn in range(turns + 1):
            for name, model in models.items():
                inputs = normalize(model, clips)
                start = time.perf_counter()
                recognizer_forward(model, inputs)
                if turn:  # the first turn warms up
                    seconds[name].append(time.perf_counter() - start)
    return {name: batch / statistics.median(seconds[name]) for name in models}


def tokens_kept(model: torch.nn.Module, clip: torch.Tensor) -> str:
    """Frames that a model keeps, the share of their area, and both together."""
    if not len(model.backbone.reducers):
        return 'all'
    with torch.inference_mode(), SelectionTrace(model) as trace:
        recognizer_forward(model, clip)
    return trace.kept(sample=0).summary()


def make_table(scores: dict[str, float], models: dict[str, torch.nn.Module]) -> str:
    """The models side by side, as text."""
    shape = default_input_shape(Config.fromfile(ROOT / config_file('dense')))
    speed = clips_per_second(models)
    rows = [('model', 'top-1', 'GFLOPs', 'clips/s', 'tokens kept')]
    costs = {name: count_complexity(model, torch.zeros(1, *shape),
                                    recognizer_forward).gflops
             for name, model in models.items()}
    for name, model in models.items():
        change = costs[name] / costs['dense'] - 1
        cost = f'{costs[name]:.4f}' + (f' ({change:+.0%})' if change else '')
        rows.append((MODELS[name], f'{scores[name]:.3f}', cost, f'{speed[name]:.0f}',
                     tokens_kept(model, torch.zeros(1, *shape))))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    lines = ['  '.join(cell.ljust(width) for cell, width in
                       zip(row, widths, strict=True)).rstrip() for row in rows]
    return '\n'.join([lines[0], '-' * max(map(len, lines)), *lines[1:]])


def picture(model: torch.nn.Module) -> None:
    """Draw what the learned model keeps of a clip of each pictured class."""
    truth = json.loads((ROOT / DATA / TRUTH_FILE).read_text())
    indices = [8 * (i + 1) + label for i, label in enumerate(PICTURED)]
    clips, dataset = load_clips(indices)
    with torch.inference_mode(), SelectionTrace(model) as trace:
        scores = recognizer_forward(model, normalize(model, clips))
    rows = []
    for row, index in enumerate(indices):
        video = Path(dataset.get_data_info(index)['filename'])
        guess, label = CLASS_NAMES[scores[row].argmax()], CLASS_NAMES[index % 8]
        verdict = 'recognised' if guess == label else f'taken for: {guess}'
        title = f'{label}, {verdict}'.replace('_', ' ')
        images = clips[row, :, ::2].permute(1, 2, 3, 0).numpy()
        rows.append(SelectionRow(images, trace.kept(row), title,
                                 true_boxes(truth, video, len(images), clips.shape)))
    plot_selection(rows, ROOT / PICTURE, 'What the learned selection keeps: 3 of 8 '
                   'token frames, then 6x6 of 8x8 places')


def true_boxes(truth: dict, video: Path, frames: int, shape: torch.Size) -> list:
    """For each token frame the actor's box as shares of the frame, or None."""
    entry = truth['/'.join(video.parts[-2:])]
    start, stop = entry['action']
    height, width = shape[-2:]
    boxes = []
    for t in range(frames):
        frame = 4 * t + 1  # every second of the sampled frames, which skip one each
        if not start <= frame < stop:
            boxes.append(None)
            continue
        left, top, right, bottom = entry['boxes'][frame - start]
        boxes.append((top / height, left / width, bottom / height, right / width))
    return boxes


def main() -> None:
    argparse.ArgumentParser(prog='run_demo.py', description=__doc__).parse_args()
    begin = time.monotonic()
    try:
        print(f'$ {PYTHON} tools/data/make_moving_shapes.py {DATA}', flush=True)
        subprocess.run([sys.executable, 'tools/data/make_moving_shapes.py', str(DATA)],
                       cwd=ROOT, check=True)
        for name in MODELS:
            train(name)
        scores = {name: test(name) for name in MODELS}
    except (StepFailed, subprocess.CalledProcessError) as error:
        sys.exit(f'error: {error}')
    init_default_scope('mmaction')  # whose registries the configs' names are in
    models = {name: load(name) for name in MODELS}
    table = make_table(scores, models)
    (ROOT / RUNS / 'table.txt').write_text(table + '\n')
    picture(models['stts'])
    print(f'\n{table}\n\n8 classes, chance 0.125; one multiply-add = 1 FLOP; '
          f'{torch.get_num_threads()} threads, batch 8'
          f'\npicture of what is kept: {PICTURE}'
          f'\n{(time.monotonic() - begin) / 60:.1f} minutes in all')


if __name__ == '__main__':
    main()
