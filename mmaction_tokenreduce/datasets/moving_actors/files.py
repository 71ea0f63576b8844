# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Writing the moving actors as AVA is laid out: frames, csv, label map, excluded list.
"""
import dataclasses
import json
import os
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from ..generated import (
    Written,
    checked_workers,
    claim_folder,
    write_videos,
    write_whole,
)
from .config import CLASS_NAMES, SPLITS, MovingActorsConfig
from .scene import boxes, draw_video, labels, render_take

TRUTH_FILE = 'truth.json'
FRAME_NAME = 'img_{:05}.jpg'  # counted from 1, as AVA's

_VERSION = 2  # goes up whenever the same settings give other pixels
_CHUNK = 4  # videos a worker is handed at a time
_JPEG_END = b'\xff\xd9'


def write_dataset(out_dir: str | os.PathLike, config: MovingActorsConfig,
                  workers: int | None = None, progress: bool = True) -> Written:
    """Write frames, annotations, label map, excluded timestamps and ground truth.

    In `out_dir`: `settings.json`; `frames/train_0000/img_00001.jpg` and so on; then
    `train.csv`, `val.csv` (video, second, box from 0 to 1, label from 1, actor),
    `train_excluded.csv`, `val_excluded.csv` (video, second), `action_list.pbtxt`; and
    `truth.json`, which holds by video and second whether the camera fails, and for
    each actor its number, labels and boxes in all frames of the take. Files are
    written whole, and the lists last. A further call with the same settings goes on
    where an interrupted one stopped; it writes damaged videos anew.

    Args:
        out_dir (str or PathLike): Folder; made if it is missing.
        config (MovingActorsConfig): Settings.
        workers (int, optional): Processes; 1 works in this one. Default: one for each
            usable core. Files do not depend on it.
        progress (bool): Show a progress bar on stderr.

    Returns:
        Written: Counts of videos.

    Raises:
        NotADirectoryError: If `out_dir` is something else than a folder.
        ValueError: If `workers` is below 1, or the folder holds other things or a
            data set of other settings.
    """
    workers = checked_workers(workers)
    out = Path(out_dir)
    claim_folder(out, dict(version=_VERSION, **dataclasses.asdict(config)), ['frames'])
    names = [(split, index) for split in SPLITS for index in range(config.count(split))]
    written = write_videos(
        partial(_write_videos, out, config), names, partial(_is_complete, out, config),
        workers, _CHUNK, 'moving actors', progress)
    _write_lists(out, config)
    return written


def _video_id(split: str, index: int) -> str:
    return f'{split}_{index:04d}'


def _frame_files(out: Path, config: MovingActorsConfig, split: str,
                 index: int) -> list[Path]:
    folder = out / 'frames' / _video_id(split, index)
    return [folder / FRAME_NAME.format(number)
            for number in range(1, config.num_frames + 1)]


def _is_complete(out: Path, config: MovingActorsConfig, split: str,
                 index: int) -> bool:
    """Whether all frames of a video are there, each to its end."""
    try:
        return all(path.read_bytes().endswith(_JPEG_END)
                   for path in _frame_files(out, config, split, index))
    except OSError:
        return False


def _write_videos(out: Path, config: MovingActorsConfig,
                  jobs: list[tuple[str, int]]) -> int:
    for split, index in jobs:
        video = draw_video(config, index, split)
        frames = np.concatenate([render_take(config, video, number)
                                 for number in range(config.keyframes)])
        files = _frame_files(out, config, split, index)
        for path, frame in zip(files, frames, strict=True):
            _, data = cv2.imencode('.jpg', frame[..., ::-1],
                                   [cv2.IMWRITE_JPEG_QUALITY, config.quality])
            write_whole(path, data.tobytes())
    return len(jobs)


def _write_lists(out: Path, config: MovingActorsConfig) -> None:
    """Write ground truth, label map, annotations and excluded timestamps."""
    size = np.array([config.width, config.height] * 2)
    truth = {}
    for split in SPLITS:
        lines, excluded = [], []
        for index in range(config.count(split)):
            name = _video_id(split, index)
            truth[name] = {}
            for number, take in enumerate(draw_video(config, index, split).takes):
                second = config.timestamp(number)
                actors = []
                for actor, ids in zip(take.actors, labels(config, take), strict=True):
                    track = boxes(config, actor)
                    actors.append(dict(entity=actor.entity, labels=ids,
                                       boxes=track.round(2).tolist()))
                    box = ','.join(f'{value:.3f}' for value
                                   in track[config.clip_len // 2] / size)
                    lines += [f'{name},{second:04d},{box},{label},{actor.entity}\n'
                              for label in ids]
                truth[name][str(second)] = dict(glitch=take.glitch, actors=actors)
                if take.glitch:
                    excluded.append(f'{name},{second:04d}\n')
        write_whole(out / f'{split}.csv', ''.join(lines).encode())
        write_whole(out / f'{split}_excluded.csv', ''.join(excluded).encode())
    items = [f'item {{\n  name: "{name}"\n  id: {label}\n}}\n'
             for label, name in enumerate(CLASS_NAMES, 1)]
    write_whole(out / 'action_list.pbtxt', ''.join(items).encode())
    write_whole(out / TRUTH_FILE, json.dumps(truth).encode())
