# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Commands of README and docs, run whole and as written: `make commands`.

The blocks of a page run in their order, in a copy of the checkout of their own with a
few generated videos where configs look for Kinetics-400, AVA and the others. Words in
capitals are filled in, and what would take hours is cut short by the options of
`SHORTER`; models, configs and sizes are the real ones. `LEFT_OUT` says what is not run,
and why; commands with released weights want ../shared, which knows their names. Not
part of `make test`, which hands each command to its tool without running it.
"""
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from conftest import find_shared
from mmengine.config import Config
from mmengine.registry import init_default_scope
from test_docs_commands import BLOCK, PAGES, ROOT, SHELL

TRAIN = ('train_cfg.max_epochs=1 train_dataloader.batch_size=1 '
         'train_dataloader.num_workers=0 train_dataloader.persistent_workers=False '
         'val_dataloader.num_workers=0 val_dataloader.persistent_workers=False')
TEST = 'test_dataloader.num_workers=0 test_dataloader.persistent_workers=False'
SHORTER = {
    'train.py': TRAIN, 'dist_train.sh': TRAIN, 'test.py': TEST,
    'benchmark.py': '--turns 1 --no-memory', 'benchmark_decode.py': '--turns 1',
    'demo.py': '--stride 64', 'export.py': '--check 1',
}
LEFT_OUT = {
    r'^(make test|pip|source|python -m pytest) ': 'set-up and tests, which CI runs',
    r'^make demo ': 'trains for ten minutes',
    r'tools/compare_|work_dirs/compare_': 'trains for most of an hour',
    r'benchmark_(roi_align|motion)\.py|benchmark.py configs/evad':
        'takes minutes, however few turns',
    r'NNODES=|slurm_train': 'wants several machines',
    r'dist_train.sh configs/evad': 'its train.py is run, others in two processes',
    r' 0 --seconds ': 'wants a camera',
    r'--source (videomae|timm_vit)': 'wants weights whose names are not here',
}
PAGES_LEFT_OUT = {'docs/performance.md': 'measured by hand, minutes a command'}
CLASSES = 400
FRAMES = 160


def lines_of(text: str) -> list[str]:
    """Commands of a block, each on one line, without comments."""
    lines = re.sub(r'\\\n\s*', '', text).splitlines()
    lines = [re.sub(r'(^|\s+)# .*', '', line).strip() for line in lines]
    return [line for line in lines if line]


def blocks(page: str) -> list[list[str]]:
    """The lines that run, of every block with such lines."""
    found = [[line for line in lines_of(text)
              if not any(re.search(pattern, line + ' ') for pattern in LEFT_OUT)]
             for language, text in BLOCK.findall((ROOT / page).read_text())
             if language in SHELL]
    return [lines for lines in found if lines]


PAGES_THAT_RUN = [name for name in (str(page.relative_to(ROOT)) for page in PAGES)
                  if name not in PAGES_LEFT_OUT and blocks(name)]


def write_video(path: Path, shade: int) -> None:
    """160 frames of 128x96, H.264: a square that moves."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('libx264', rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, 'yuv420p'
        for image in frames(shade):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, 'rgb24')))
        container.mux(stream.encode())


def frames(shade: int):
    noise = np.random.default_rng(shade).integers(0, 120, (96, 128, 3), np.uint8)
    for number in range(FRAMES):
        image = noise.copy()
        x, y = number % 96, number * 2 % 64
        image[y:y + 32, x:x + 32] = (255, shade, 64)
        yield image


def write_kinetics_like(folder: Path, splits: dict[str, str]) -> None:
    """A video a split, and its list."""
    for split, videos in splits.items():
        write_video(folder / videos / f'{split}.mp4', len(split))
        (folder / f'{folder.name}_{split}_list_videos.txt').write_text(
            f'{split}.mp4 1\n')


def write_ava(folder: Path, anno: Path, names: dict[str, str], label_map: Path,
              classes: int, start: int, seconds: int) -> None:
    """Frames of a video for each split, 30 a second, and annotations of a keyframe."""
    anno.mkdir(parents=True, exist_ok=True)
    for split, name in names.items():
        video = folder / f'{split}_video'
        video.mkdir(parents=True)
        for number, image in enumerate(frames(len(split)), 1):
            cv2.imwrite(str(video / f'img_{number:05d}.jpg'), image)
        for later in range(number + 1, 30 * seconds + 1):
            os.link(video / f'img_{number:05d}.jpg', video / f'img_{later:05d}.jpg')
        (anno / name).write_text(''.join(
            f'{split}_video,{start + 2},0.1,0.2,0.5,0.7,{label},0\n'
            for label in (1, 4)))
    label_map.write_text(''.join(
        f'item {{\n  name: "action {label}"\n  id: {label}\n}}\n'
        for label in range(1, classes + 1)))


def write_data(data: Path) -> None:
    """What configs and docs name below data/, small."""
    write_kinetics_like(data / 'kinetics400', {'train': 'videos_train',
                                               'val': 'videos_val'})
    write_kinetics_like(data / 'sthv2', {'train': 'videos', 'val': 'videos'})
    write_video(data / 'diving48/videos/one.mp4', 3)
    write_video(data.parent / 'EPIC-KITCHENS/P01/videos/P01_01.MP4', 3)
    epic = data / 'epic100/annotations'
    epic.mkdir(parents=True)
    for split in ('train', 'validation'):
        (epic / f'EPIC_100_{split}.csv').write_text(
            'narration_id,participant_id,video_id,start_timestamp,stop_timestamp,'
            'verb_class,noun_class\nP01_01_0,P01,P01_01,00:00:01.00,00:00:03.00,1,2\n')
    anno = data / 'ava/annotations'
    write_ava(data / 'ava/rawframes', anno,
              {split: f'ava_{split}_v2.2.csv' for split in ('train', 'val')},
              anno / 'ava_action_list_v2.2_for_activitynet_2019.pbtxt', 80, 900, 900)
    for split in ('train', 'val'):
        (anno / f'ava_{split}_excluded_timestamps_v2.2.csv').write_text(
            'other_video,0902\n')
    write_ava(data / 'mine/frames', data / 'mine', {'train': 'train.csv'},
              data / 'mine/map.pbtxt', 5, 0, 60)
    for name, file in (('jhmdb', 'JHMDB-GT'), ('ucf101_24', 'UCF101v2-GT')):
        write_tubes(data / name / f'{file}.pkl')


def write_tubes(path: Path) -> None:
    """Annotations as ACT published them: one video, one actor."""
    path.parent.mkdir(parents=True)
    tube = np.array([[frame, 10, 12, 50, 60] for frame in range(1, 21)], np.float32)
    path.write_bytes(pickle.dumps(dict(
        labels=['walk'], gttubes={'walk/one': {0: [tube]}}, nframes={'walk/one': 20},
        train_videos=[['walk/one']], test_videos=[['walk/one']],
        resolution={'walk/one': (96, 128)}), protocol=2))


class Checkout:
    """A copy of the checkout with small data, in which commands run."""

    def __init__(self, folder: Path, shared: Path | None) -> None:
        self.folder, self.shared = folder / 'main', shared
        for name in ('configs', 'tools', 'mmaction_tokenreduce', 'docs'):
            shutil.copytree(ROOT / name, self.folder / name,
                            ignore=shutil.ignore_patterns('__pycache__'))
        for name in ('setup.cfg', 'pyproject.toml', 'requirements'):
            (self.folder / name).symlink_to(ROOT / name)
        write_data(self.folder / 'data')
        write_video(self.folder / 'clip.mp4', 7)
        (self.folder / 'names.txt').write_text(
            ''.join(f'class {number}\n' for number in range(CLASSES)))
        mixing = (ROOT / 'docs/mixing.md').read_text()
        (self.folder / 'mine.py').write_text(
            re.search(r'```python\n(.*?)```', mixing, re.DOTALL)[1])

    def save_untrained(self, config: str, path: str) -> str:
        """Write a checkpoint of a config's model, unless it is there."""
        file = self.folder / path
        if not file.is_file():
            sys.path.insert(0, str(ROOT / 'tools'))
            from _model import build_model
            init_default_scope('mmaction')
            file.parent.mkdir(exist_ok=True)
            cfg = Config.fromfile(self.folder / config)
            cfg.model.backbone.pretrained = None  # nothing is downloaded
            model = build_model(cfg)
            model.init_weights()
            torch.save(dict(state_dict=model.state_dict()), file)
        return path

    def released(self, source: str) -> str:
        """A file with the names and shapes of released weights."""
        keys = {'slowfast_mvit': 'slowfast_mvit_b16x4',
                'stts_mvit': 'stts_mvit_b16_t06_s09', 'evad': 'evad_vit_b'}[source]
        shapes = json.loads((self.shared / f'official_keys/{keys}.json').read_text())
        weights = {name: torch.randn(shape) / 50
                   for name, shape in shapes['keys'].items()}
        torch.save(dict(model_state=weights), self.folder / f'{source}.pyth')
        return f'{source}.pyth'

    def filled_in(self, line: str) -> str:
        """A command with its words in capitals replaced, and cut short."""
        config = re.search(r'(configs/\S+|mine)\.py', line)
        if re.search(r'\bCHECKPOINT\b', line):
            name = f'checkpoints/{Path(config[0]).stem}.pth'
            line = line.replace('CHECKPOINT', self.save_untrained(config[0], name))
        if source := re.search(r'\b(?:RELEASED(?:\.pyth)?) .*--source (\w+)', line):
            line = re.sub(r'\bRELEASED(\.pyth)?', self.released(source[1]), line)
        for pattern, value in (
                (r'\bVIDEO\b(\.mp4)?( \.\.\.)?', 'clip.mp4'),
                (r'\bDST\b(\.pth)?', 'dst.pth'), (r'\bNAMES\.txt', 'names.txt'),
                (r'(\.sh \S+) 8', r'\1 2'),  # processes
                (r'\bCONFIG\b', 'configs/stts/mvit_t04_s06_k400.py')):
            line = re.sub(pattern, value, line)
        if 'VIDEOMAE.pth' in line:
            line = line.replace('VIDEOMAE.pth', self.save_untrained(
                config[0], 'checkpoints/videomae.pth'))
        tool = re.search(r'tools/(\S+)', line)
        if 'train' in line and 'configs/stts' in line:  # what these load_from
            self.save_untrained('configs/stts/mvit_dense_k400.py',
                                'checkpoints/mvit_b16_k400.pth')
        shorter = SHORTER.get(tool[1], '') if tool else ''
        if shorter == TRAIN and re.search('configs/(stts|dvt)/', line):
            shorter += ' train_dataloader.dataset.num_repeats=1'
        if '=' in shorter and '--cfg-options' not in line:
            line += ' --cfg-options'
        return f'{line} {shorter}'

    def run(self, lines: list[str]) -> None:
        """Run a block in bash, to the first command that fails."""
        if self.shared is None:
            wants = re.compile('RELEASED|released')
            lines = [line for line in lines if not wants.search(line)]
        script = '\n'.join([r"PS4='+ ${SECONDS} s: '", 'set -euxo pipefail',
                            *map(self.filled_in, lines)])
        environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHON': sys.executable,
                       'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}'}
        environment.pop('PYTHONPATH', None)
        # timeout stops what bash has started, too
        done = subprocess.run(['timeout', '1200', 'bash', '-c', script], text=True,
                              cwd=self.folder, env=environment, capture_output=True)
        print(*re.findall(r'^\+ \d+ s: .*', done.stderr, re.MULTILINE), sep='\n')
        assert not done.returncode, (done.stdout + done.stderr)[-6000:]


@pytest.mark.parametrize('page', PAGES_THAT_RUN)
def test_a_page(page, tmp_path):
    checkout = Checkout(tmp_path, find_shared(ROOT))
    try:
        for lines in blocks(page):
            checkout.run(lines)
    finally:
        shutil.rmtree(checkout.folder)  # gigabytes of weights, which pytest would keep


def test_most_commands_run_and_nothing_is_left_out_for_a_reason_that_is_gone():
    lines = [f'{line} ' for page in PAGES
             for language, text in BLOCK.findall(page.read_text())
             if language in SHELL for line in lines_of(text)]
    assert all(any(re.search(pattern, line) for line in lines) for pattern in LEFT_OUT)
    assert sum(len(block) for page in PAGES_THAT_RUN for block in blocks(page)) > 50
