# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Re-encoding videos to H.264 whose motion vectors can be followed.

DVT (seed 004), section 3.2, takes motion from the compressed stream. Without B-frames
and with one reference every vector of a P-frame points to the frame just before.
"""
import dataclasses
import json
import os
import re
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import av
from tqdm import tqdm

from ..whole_file import whole_file
from .video_dataset import missing_or_empty

SUFFIXES = ('.3gp', '.avi', '.flv', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg',
            '.ogv', '.ts', '.webm', '.wmv')
SETTINGS_FILE = 'transcode_h264.json'
PRESETS = ('ultrafast', 'superfast', 'veryfast', 'faster', 'fast', 'medium', 'slow',
           'slower', 'veryslow')


@dataclasses.dataclass(frozen=True)
class TranscodeConfig:
    """How videos are encoded.

    Attributes:
        crf (int): Quality of libx264, 0 lossless to 51 worst.
        preset (str): Speed preset of libx264, one of `PRESETS`.
        gop (int): The most frames from one I-frame to the next; motion is bridged
            across an I-frame, not measured.
        short_side (int, optional): Height or width in px that the shorter side is
            scaled to, where it is longer. Default: as it is.

    Raises:
        ValueError: If a setting cannot be used.
    """

    crf: int = 18
    preset: str = 'medium'
    gop: int = 250
    short_side: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.crf <= 51:
            raise ValueError(f'crf is {self.crf}; allowed is 0 to 51')
        if self.preset not in PRESETS:
            raise ValueError(f'preset is {self.preset!r}; allowed is one of '
                             f'{", ".join(PRESETS)}')
        if self.gop < 1:
            raise ValueError(f'gop is {self.gop}; allowed is at least 1')
        if self.short_side is not None and self.short_side < 16:
            raise ValueError(f'short_side is {self.short_side}; allowed is at least 16')


@dataclasses.dataclass
class Transcoded:
    """What `transcode_folder` did.

    Attributes:
        new (int): Videos written.
        kept (int): Videos that were there.
        failed (dict[str, str]): Reason by name of a video that could not be read.
    """

    new: int = 0
    kept: int = 0
    failed: dict[str, str] = dataclasses.field(default_factory=dict)


def transcode(source: str | os.PathLike, target: str | os.PathLike,
              config: TranscodeConfig) -> None:
    """Re-encode one video as mp4: H.264, no B-frames, one reference, no sound.

    Every frame stays, with its time. The file is written whole or not at all.

    Args:
        source: The video, in any format that PyAV reads.
        target: The mp4 file.
        config (TranscodeConfig): Settings.

    Raises:
        ValueError: If the video is missing, empty, without frames or corrupt.
    """
    reason = missing_or_empty(str(source))
    if reason is not None:
        raise ValueError(reason)
    frames = 0
    try:
        with av.open(str(source)) as reader, whole_file(target) as part:
            if not reader.streams.video:
                raise ValueError('it has no video stream')
            with av.open(str(part), 'w', format='mp4') as writer:
                frames = _encode(reader, writer, config)
            if not frames:
                raise ValueError('it has no frames')
    except av.FFmpegError as error:
        raise ValueError(error.strerror or str(error)) from error


def _encode(reader: av.container.InputContainer, writer: av.container.OutputContainer,
            config: TranscodeConfig) -> int:
    """Copy the frames; how many there were."""
    source = reader.streams.video[0]
    source.thread_type, source.codec_context.thread_count = 'SLICE', 1
    stream, count, last = None, 0, None
    for frame in reader.decode(source):
        if stream is None:
            stream = add_h264_stream(writer, source, frame, config)
            by_time = frame.pts is not None and source.time_base is not None
            if by_time:
                stream.codec_context.time_base = source.time_base
        image = frame.reformat(width=stream.width, height=stream.height,
                               format='yuv420p', threads=1)
        image.pict_type = 0  # the encoder's choice
        if not by_time:
            image.pts, image.time_base = count, 1 / stream.codec_context.rate
        elif image.pts is None or (last is not None and image.pts <= last):
            image.pts = last + 1  # a broken time; the order stays
        last = image.pts
        writer.mux(stream.encode(image))
        count += 1
    if stream is not None:
        writer.mux(stream.encode())
    return count


def add_h264_stream(writer: av.container.OutputContainer, source: av.VideoStream,
                    frame: av.VideoFrame, config: TranscodeConfig) -> av.VideoStream:
    """Add an H.264 stream without B-frames and with one reference.

    Args:
        writer: The new file.
        source: The stream that is encoded anew; the new one has its frame rate.
        frame: The first frame, whose size the new stream has, or a smaller one.
        config (TranscodeConfig): Settings.

    Returns:
        av.VideoStream: Of yuv420p. Who hands on time stamps sets its time base.
    """
    # weighted prediction explains fades by other vectors than the motion's
    options = dict(crf=str(config.crf), preset=config.preset, g=str(config.gop), bf='0',
                   refs='1', threads='1', weightp='0', mbtree='0')
    stream = writer.add_stream('libx264', rate=source.average_rate or 25,
                               options=options)
    scale = 1.0
    if config.short_side is not None:
        scale = min(1.0, config.short_side / min(frame.width, frame.height))
    # yuv420p needs even sides
    stream.width, stream.height = (
        max(2, 2 * round(side * scale / 2)) for side in (frame.width, frame.height))
    stream.pix_fmt = 'yuv420p'
    return stream


def find_videos(folder: Path) -> dict[str, str]:
    """Videos below a folder.

    Args:
        folder (Path): The folder.

    Returns:
        dict[str, str]: Name of the mp4 file by the video's name, both from the folder.

    Raises:
        ValueError: If there are none, or two would become one file.
    """
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob('*')
                   if path.suffix.lower() in SUFFIXES and path.is_file()
                   and not path.name.startswith('.'))
    if not names:
        raise ValueError(f'{folder} has no videos ({", ".join(SUFFIXES)})')
    targets: dict[str, str] = {}
    for name in names:
        target = Path(name).with_suffix('.mp4').as_posix()
        if target in targets:
            raise ValueError(f'{targets[target]} and {name} of {folder} would both '
                             f'become {target}; rename one')
        targets[target] = name
    return {name: target for target, name in targets.items()}


def transcode_folder(source: str | os.PathLike, target: str | os.PathLike,
                     config: TranscodeConfig, workers: int | None = None,
                     progress: bool = True) -> Transcoded:
    """Re-encode all videos of a folder, keeping its tree.

    A further call with the same settings goes on where an interrupted one stopped, and
    tries again what failed.

    Args:
        source: The folder.
        target: Another folder; made if it is missing.
        config (TranscodeConfig): Settings; they are noted in the folder.
        workers (int, optional): Processes. Default: one for each usable core.
        progress (bool): Show a progress bar on stderr.

    Returns:
        Transcoded: Counts and failures.

    Raises:
        NotADirectoryError: If `source` is no folder, or `target` is a file.
        ValueError: If `workers` is below 1, the folders overlap, `target` holds videos
            of other settings, or `find_videos` raises it.
    """
    if workers is None:
        workers = (len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity')
                   else os.cpu_count() or 1)
    if workers < 1:
        raise ValueError(f'workers is {workers}; allowed is at least 1')
    source, target = Path(source), Path(target)
    if not source.is_dir():
        raise NotADirectoryError(f'{source} is no folder')
    here, there = source.resolve(), target.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise ValueError(f'{target} and {source} overlap; give another folder for the '
                         'new videos')
    videos = find_videos(source)
    _claim_folder(target, config)
    jobs = [(name, file) for name, file in videos.items()
            if not (target / file).is_file()]
    result = Transcoded(kept=len(videos) - len(jobs))
    with tqdm(total=len(videos), initial=result.kept, unit='video', desc='H.264',
              mininterval=0.5, disable=not progress) as bar:
        for name, reason in _run(source, target, jobs, config, min(workers, len(jobs))):
            bar.update()
            if reason is None:
                result.new += 1
            else:
                result.failed[name] = reason
    result.failed = dict(sorted(result.failed.items()))
    return result


def _claim_folder(target: Path, config: TranscodeConfig) -> None:
    """Note the settings in the folder, or check that those in it are the same."""
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(f'{target} is a file; give a folder')
    path, settings = target / SETTINGS_FILE, dataclasses.asdict(config)
    if path.exists():
        try:
            there = json.loads(path.read_text())
        except ValueError:
            there = None
        if there != settings:
            raise ValueError(f'{path} notes other settings, {there}, and {settings} '
                             'are wanted; give the same, or another folder')
        return
    if target.exists() and any(target.iterdir()):
        raise ValueError(f'{target} holds other files and no {SETTINGS_FILE}; give a '
                         'new or empty folder')
    with whole_file(path) as part:
        part.write_text(json.dumps(settings, indent=2) + '\n')


def _run(source: Path, target: Path, jobs: Sequence[tuple[str, str]],
         config: TranscodeConfig, workers: int) -> Iterator[tuple[str, str | None]]:
    """Do the jobs; yields each video's name, and a reason where it failed."""
    if workers <= 1:
        for name, file in jobs:
            yield name, _job(source / name, target / file, config)
        return
    pool = ProcessPoolExecutor(workers, initializer=_start_worker)
    try:
        running = {pool.submit(_job, source / name, target / file, config): name
                   for name, file in jobs}
        for future in as_completed(running):
            yield running[future], future.result()
    finally:  # after an error or Ctrl-C, workers still finish the video in hand
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's


def _job(source: Path, target: Path, config: TranscodeConfig) -> str | None:
    try:
        transcode(source, target, config)
    except ValueError as error:
        return str(error)
    return None


def rewrite_list(path: str | os.PathLike, target: str | os.PathLike) -> int:
    """Write an annotation list anew with the names of the mp4 files.

    The first thing on a line that ends in a video's suffix, up to a blank, a comma or
    the end, is the name; what follows stays. Names may hold blanks.

    Args:
        path: The list.
        target: The new list; written whole or not at all.

    Returns:
        int: Lines that changed.

    Raises:
        ValueError: If both are the same file.
    """
    path, target = Path(path), Path(target)
    if path.resolve() == target.resolve():
        raise ValueError(f'{path} would be replaced by its new version')
    endings = '|'.join(re.escape(suffix) for suffix in SUFFIXES)
    pattern = re.compile(rf'^(.*?)(?:{endings})(?=[\s,]|$)', re.IGNORECASE)
    changed, lines = 0, path.read_text().splitlines(keepends=True)
    for at, line in enumerate(lines):
        lines[at] = pattern.sub(lambda found: f'{found[1]}.mp4', line, count=1)
        changed += lines[at] != line
    with whole_file(target) as part:
        part.write_text(''.join(lines))
    return changed
