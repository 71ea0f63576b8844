# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Writing the moving shapes: videos, lists and ground truth."""
import dataclasses
import io
import json
import os
from functools import partial
from pathlib import Path

import av
import numpy as np

from ..generated import (
    Written,
    checked_workers,
    claim_folder,
    write_videos,
    write_whole,
)
from .config import CLASS_NAMES, SPLITS, MovingShapesConfig
from .scene import clip_info, draw_scene, label_of, render_clip

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
    workers = checked_workers(workers)
    out = Path(out_dir)
    claim_folder(out, dict(version=_VERSION, **dataclasses.asdict(config)), SPLITS)
    names = [(split, index) for split in SPLITS for index in range(config.count(split))]
    written = write_videos(
        partial(_write_videos, out, config), names, partial(_is_complete, out, config),
        workers, _CHUNK, 'moving shapes', progress)
    _write_lists(out, config)
    return written


def _video_name(split: str, index: int) -> str:
    return f'{split}/{index:06d}.mp4'


def _is_complete(out: Path, config: MovingShapesConfig, split: str,
                 index: int) -> bool:
    """Whether a video is there, can be opened and has all its frames."""
    try:
        with av.open(str(out / _video_name(split, index))) as container:
            return container.streams.video[0].frames == config.num_frames
    except (OSError, av.FFmpegError, IndexError):
        return False


def _write_videos(out: Path, config: MovingShapesConfig,
                  jobs: list[tuple[str, int]]) -> int:
    for split, index in jobs:
        frames, _, _ = render_clip(config, index, split)
        data = encode_mp4(frames, config.fps, config.crf, config.preset)
        write_whole(out / _video_name(split, index), data)
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
    write_whole(out / TRUTH_FILE, json.dumps(truth).encode())
    write_whole(out / 'class_names.txt', '\n'.join([*CLASS_NAMES, '']).encode())
    for split in SPLITS:
        lines = [f'{name} {clip["label"]}\n' for name, clip in truth.items()
                 if name.startswith(f'{split}/')]
        write_whole(out / f'{split}.txt', ''.join(lines).encode())
