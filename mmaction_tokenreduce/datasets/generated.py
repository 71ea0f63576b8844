# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Writing generated data sets: a folder that knows its settings, work that resumes."""
import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import cv2
from tqdm import tqdm

from ..whole_file import whole_file

SETTINGS_FILE = 'settings.json'


class Written(NamedTuple):
    """How many videos a call wrote, and found there already."""
    new: int
    kept: int


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    with whole_file(path) as part:
        part.write_bytes(data)


def checked_workers(workers: int | None) -> int:
    """Processes to use: one for each usable core unless given.

    Raises:
        ValueError: If it is below 1.
    """
    if workers is None:
        return (len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity')
                else os.cpu_count() or 1)
    if workers < 1:
        raise ValueError(f'workers is {workers}; allowed is at least 1')
    return workers


def claim_folder(out: Path, settings: dict[str, Any], folders: Sequence[str]) -> None:
    """Make the folder with its settings, or check that those in it are the same.

    Args:
        out (Path): The folder of the data set.
        settings (dict): What decides about its files, as JSON can hold it.
        folders (Sequence[str]): Folders to make in it.

    Raises:
        NotADirectoryError: If `out` is something else than a folder.
        ValueError: If the folder holds other things or a data set of other settings.
    """
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f'{out} is a file; give a folder for the data set')
    path = out / SETTINGS_FILE
    if not path.exists():
        if out.exists() and any(out.iterdir()):
            raise ValueError(f'{out} holds other files and no {SETTINGS_FILE}; give a '
                             'new or empty folder for the data set')
        for folder in folders:
            (out / folder).mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(settings, indent=2).encode() + b'\n')
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


def run_jobs(work: Callable[[list], int], jobs: Sequence, workers: int,
             chunk: int) -> Iterator[int]:
    """Do jobs, side by side if there are several workers.

    Args:
        work (Callable): Does a list of jobs and returns how many; a function that
            other processes can import, or a `functools.partial` of one.
        jobs (Sequence): The jobs.
        workers (int): Processes; 1 works in this one.
        chunk (int): Jobs that a worker is handed at a time.

    Yields:
        int: How many jobs were done since the last one.
    """
    chunks = [list(jobs[i:i + chunk]) for i in range(0, len(jobs), chunk)]
    workers = min(workers, len(chunks))
    if workers <= 1:
        for job in jobs:
            yield work([job])
        return
    pool = ProcessPoolExecutor(workers, initializer=_start_worker)
    try:
        running = [pool.submit(work, part) for part in chunks]
        for future in as_completed(running):
            yield future.result()
    finally:  # after an error or Ctrl-C, workers still finish the chunk in hand
        pool.shutdown(cancel_futures=True)


def write_videos(work: Callable[[list], int], names: Sequence,
                 is_complete: Callable[..., bool], workers: int, chunk: int, title: str,
                 progress: bool) -> Written:
    """Write the videos that are not there yet, under a progress bar.

    Args:
        work (Callable): See :func:`run_jobs`.
        names (Sequence): A tuple for each video of the data set.
        is_complete (Callable): Whether a video, by the members of its tuple, is there.
        workers (int): Processes.
        chunk (int): Videos that a worker is handed at a time.
        title (str): Of the progress bar.
        progress (bool): Show it, on stderr.

    Returns:
        Written: Counts of videos.
    """
    jobs = [name for name in names if not is_complete(*name)]
    kept = len(names) - len(jobs)
    with tqdm(total=len(names), initial=kept, unit='video', desc=title,
              mininterval=0.5, disable=not progress) as bar:
        for done in run_jobs(work, jobs, workers, chunk):
            bar.update(done)
    return Written(len(jobs), kept)


def _start_worker() -> None:
    """Leave Ctrl-C to the main process, and keep OpenCV to one thread a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)
