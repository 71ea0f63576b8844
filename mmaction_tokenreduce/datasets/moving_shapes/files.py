# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Writing the moving shapes: videos, lists and ground truth."""
import dataclasses
import io
import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
from tqdm import tqdm

from ...whole_file import whole_file
from .config import CLASS_NAMES, SPLITS, MovingShapesConfig
from .scene import clip_info, draw_scene, label_of, render_clip

SETTINGS_FILE = 'settings.json'
TRUTH_FILE = 'truth.json'

_VERSION = 2  # goes up whenever the same settings give other pixels
_CHUNK = 8  # clips a worker is handed at a time


def encode_mp4(frames: np.ndarray, fps: int, crf: int, preset: str) -> bytes:
    """Encode frames with libx264 (yuv420p), in memory; the same frames, the same bytes.

    Args:
        frames (np.ndarray): (T, H, W, 3) uint8 RGB; H and W even.
        fps (int): Frame rate.
        crf (int): Quality, 0 lossless to 51 worst.
        preset (str): Speed preset of libx264.

    Returns:
        bytes: The mp4 file.
    """
    buffer = io.BytesIO()
    # One thread, since videos are encoded side by side. With its macroblock tree x264
    # gave other bytes for the same frames in 7 of 100 runs (core 165, 48x32), without
    # it in none of 3600.
    options = dict(crf=str(crf), preset=preset, threads='1', mbtree='0')
    with av.open(buffer, 'w', format='mp4') as container:
        stream = container.add_stream('libx264', rate=fps, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = 'yuv420p'
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, 'rgb24')))
        container.mux(stream.encode())
    return buffer.getvalue()


class Written(NamedTuple):
    """How many videos a call of `write_dataset` wrote, and found there already."""

    new: int
    kept: int


def write_dataset(out_dir: str | os.PathLike, config: MovingShapesConfig,
                  workers: int | None = None, progress: bool = True) -> Written:
    """Write videos, annotation lists, class names, settings and ground truth.

    In `out_dir`: `settings.json`; `train/000000.mp4` and so on, `val/` likewise; then
    `train.txt` and `val.txt` (lines `train/000000.mp4 3`, mmaction2's VideoDataset
    with `data_prefix=dict(video=out_dir)`); `class_names.txt`; and `truth.json`, which
    holds by video the label, the action's first video frame and the one after its
    last, and the actor's box in each of these frames. Validation videos serve as test
    videos. Each file is written whole or not at all, and the lists last, so that
    they never name a missing video. A further call with the same settings goes on
    where an interrupted one stopped; it writes damaged videos anew.

    Args:
        out_dir (str or PathLike): Folder; made if it is missing.
        config (MovingShapesConfig): Settings.
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
    if workers is None:
        workers = (len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity')
                   else os.cpu_count() or 1)
    if workers < 1:
        raise ValueError(f'workers is {workers}; allowed is at least 1')
    out = Path(out_dir)
    _claim_folder(out, config)
    jobs = [(split, index) for split in SPLITS for index in range(config.count(split))
            if not _is_complete(out / _video_name(split, index), config)]
    total = sum(config.count(split) for split in SPLITS)
    chunks = [jobs[i:i + _CHUNK] for i in range(0, len(jobs), _CHUNK)]
    with tqdm(total=total, initial=total - len(jobs), unit='video',
              desc='moving shapes', mininterval=0.5, disable=not progress) as bar:
        for done in _run_chunks(out, config, chunks, min(workers, len(chunks))):
            bar.update(done)
    _write_lists(out, config)
    return Written(len(jobs), total - len(jobs))


def _video_name(split: str, index: int) -> str:
    return f'{split}/{index:06d}.mp4'


def _claim_folder(out: Path, config: MovingShapesConfig) -> None:
    """Make the folder with its settings, or check that those in it are the same."""
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f'{out} is a file; give a folder for the data set')
    path = out / SETTINGS_FILE
    settings = dict(version=_VERSION, **dataclasses.asdict(config))
    if not path.exists():
        if out.exists() and any(out.iterdir()):
            raise ValueError(f'{out} holds other files and no {SETTINGS_FILE}; give a '
                             'new or empty folder for the data set')
        for split in SPLITS:
            (out / split).mkdir(parents=True, exist_ok=True)
        _write_whole(path, json.dumps(settings, indent=2).encode() + b'\n')
        return
    try:
        there = json.loads(path.read_text())
    except ValueError:
        there = None
    if not isinstance(there, dict):
        raise ValueError(f'{path} is damaged; delete {out} or give another folder')
    for key in [*settings, *there]:
        if there.get(key) != settings.get(key):
            raise ValueError(
                f'{path} has {key} {there.get(key)!r}, but {settings.get(key)!r} is '
                f'wanted; give the same settings or another folder, or delete {out}')


def _is_complete(path: Path, config: MovingShapesConfig) -> bool:
    """Whether a video is there, can be opened and has all its frames."""
    try:
        with av.open(str(path)) as container:
            return container.streams.video[0].frames == config.num_frames
    except (OSError, av.FFmpegError, IndexError):
        return False


def _run_chunks(out: Path, config: MovingShapesConfig,
                chunks: list[list[tuple[str, int]]], workers: int) -> Iterator[int]:
    """Write the videos of each chunk; yields how many a finished one had."""
    if workers <= 1:
        for split, index in (job for chunk in chunks for job in chunk):
            yield _write_videos(out, config, [(split, index)])
        return
    pool = ProcessPoolExecutor(workers, initializer=_start_worker)
    try:
        running = [pool.submit(_write_videos, out, config, chunk) for chunk in chunks]
        for future in as_completed(running):
            yield future.result()
    finally:  # after an error or Ctrl-C, workers still finish the chunk in hand
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Leave Ctrl-C to the main process, and keep OpenCV to one thread a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)


def _write_videos(out: Path, config: MovingShapesConfig,
                  jobs: list[tuple[str, int]]) -> int:
    for split, index in jobs:
        frames, _, _ = render_clip(config, index, split)
        data = encode_mp4(frames, config.fps, config.crf, config.preset)
        _write_whole(out / _video_name(split, index), data)
    return len(jobs)


def _write_lists(out: Path, config: MovingShapesConfig) -> None:
    """Write the ground truth, the class names and the annotation lists."""
    truth = {}
    for split in SPLITS:
        for index in range(config.count(split)):
            label = label_of(index)
            info = clip_info(config, draw_scene(config, index, split), label)
            boxes = info['boxes'][info['visible']].round(2).tolist()
            truth[_video_name(split, index)] = dict(
                label=label, action=info['action'], boxes=boxes)
    _write_whole(out / TRUTH_FILE, json.dumps(truth).encode())
    _write_whole(out / 'class_names.txt', '\n'.join([*CLASS_NAMES, '']).encode())
    for split in SPLITS:
        lines = [f'{name} {clip["label"]}\n' for name, clip in truth.items()
                 if name.startswith(f'{split}/')]
        _write_whole(out / f'{split}.txt', ''.join(lines).encode())


def _write_whole(path: Path, data: bytes) -> None:
    with whole_file(path) as part:
        part.write_bytes(data)
