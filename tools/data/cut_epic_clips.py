# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Cut a clip for each action of EPIC-KITCHENS-100 out of the whole videos:
python tools/data/cut_epic_clips.py VIDEOS OUT EPIC_100_train.csv

A clip holds the frames from start_timestamp up to stop_timestamp, made smaller, in the
H.264 that tools/data/transcode_h264.py writes, whose motion vectors all point to the
frame just before. OUT/narration_id.mp4 is what EpicKitchensDataset reads. Sound is left
out.
"""
import argparse
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout's package

import av  # noqa: E402
from av.video.frame import PictureType  # noqa: E402
from tqdm import tqdm  # noqa: E402

from mmaction_tokenreduce.datasets.epic_kitchens import (  # noqa: E402
    EpicSegment,
    read_segments,
)
from mmaction_tokenreduce.datasets.transcode import (  # noqa: E402
    PRESETS,
    TranscodeConfig,
    add_h264_stream,
)
from mmaction_tokenreduce.engine.user_errors import report_mistakes  # noqa: E402
from mmaction_tokenreduce.whole_file import whole_file  # noqa: E402

SUFFIXES = ('.mp4', '.MP4')
SEEK_MARGIN = 1.0  # seconds; containers seek by decoding time, which runs ahead


class CutError(ValueError):
    """A clip that cannot be cut; the message says why."""


def parser() -> argparse.ArgumentParser:
    """The options of tools/data/cut_epic_clips.py."""
    default = TranscodeConfig
    result = argparse.ArgumentParser(
        prog='cut_epic_clips.py',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description='Cut a clip for each action of EPIC-KITCHENS-100. An interrupted '
        'run goes on where it stopped; clips that are there stay as they are.')
    result.add_argument('videos', type=Path,
                        help='folder with VIDEO_ID.MP4, at any depth below it')
    result.add_argument('out', type=Path, help='folder for NARRATION_ID.mp4')
    result.add_argument('annotations', nargs='+', metavar='CSV',
                        help='EPIC_100_train.csv, EPIC_100_validation.csv or alike')
    result.add_argument('--short-side', type=int, default=256, metavar='PIXELS',
                        help='scale the shorter side down to this; 0 keeps it')
    result.add_argument('--crf', type=int, default=default.crf,
                        help='quality of libx264: 0 lossless to 51 worst')
    result.add_argument('--preset', default=default.preset, choices=PRESETS,
                        help='speed of libx264')
    result.add_argument('--gop', type=int, default=default.gop, metavar='FRAMES',
                        help='the most frames from one I-frame to the next')
    result.add_argument('--workers', type=int, default=os.cpu_count(), metavar='N',
                        help='processes')
    return result


def cut_clip(video: Path, clip: Path, start: float, stop: float,
             config: TranscodeConfig) -> int:
    """Write the frames of a video from a start up to a stop as a clip.

    Args:
        video (Path): The whole video.
        clip (Path): The file to write, whole or not at all.
        start (float): Seconds from the video's first frame.
        stop (float): Seconds; a frame of this time is not in the clip any more.
        config (TranscodeConfig): How to write it.

    Returns:
        int: Frames written.

    Raises:
        CutError: If the video cannot be read, or has no frames in that time.
    """
    count = 0
    with whole_file(clip) as part, av.open(str(part), 'w') as target:
        for frame, source in _frames(video, start, stop):
            if not count:
                output = add_h264_stream(target, source, frame, config)
                output.codec_context.time_base = source.time_base
                first = frame.pts
            frame = frame.reformat(output.width, output.height, 'yuv420p',
                                   interpolation='AREA')
            frame.pts -= first
            frame.pict_type = PictureType.NONE  # the encoder's choice
            target.mux(output.encode(frame))
            count += 1
        if not count:
            raise CutError(f'it has no frames from {start:.2f} s to {stop:.2f} s')
        target.mux(output.encode())
    return count


def _frames(video: Path, start: float,
            stop: float) -> Iterator[tuple[av.VideoFrame, av.VideoStream]]:
    """Frames of a time, and the stream they are from."""
    time = None
    try:
        with av.open(str(video)) as container:
            if not container.streams.video:
                raise CutError('it has no video stream')
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1  # clips are cut side by side
            zero = stream.start_time or 0
            # half a millisecond: annotations round times, videos do not
            begin, end = (zero + int((edge - 5e-4) / stream.time_base)
                          for edge in (start, stop))
            if start > SEEK_MARGIN:
                container.seek(begin - int(SEEK_MARGIN / stream.time_base),
                               stream=stream)
            for frame in container.decode(stream):
                time = float((frame.pts - zero) * stream.time_base)
                if frame.pts >= end:
                    return
                if frame.pts >= begin:
                    yield frame, stream
    except av.FFmpegError as error:
        where = 'cannot be read' if time is None else f'corrupt after {time:.2f} s'
        raise CutError(f'{where} ({error.strerror})') from None


def is_clip(path: Path) -> bool:
    """Whether a clip is there and can be opened."""
    try:
        with av.open(str(path)) as container:
            return container.streams.video[0].frames > 0
    except (OSError, av.FFmpegError, IndexError):
        return False


def find_videos(folder: Path) -> dict[str, Path]:
    """Video files below a folder, by their names without suffix.

    Raises:
        FileNotFoundError: If the folder does not exist.
        ValueError: If two files have the same name.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f'folder of the videos {folder} not found')
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob('*')):
        if path.suffix in SUFFIXES and path.is_file():
            if path.stem in found:
                raise ValueError(f'{found[path.stem]} and {path} have the same name')
            found[path.stem] = path
    return found


def cut_all(segments: Sequence[EpicSegment], videos: dict[str, Path], out: Path,
            config: TranscodeConfig, workers: int) -> list[str]:
    """Cut clips, several at a time.

    Args:
        segments (Sequence[EpicSegment]): What to cut.
        videos (dict): Whole videos by their names.
        out (Path): Folder for the clips.
        config (TranscodeConfig): How to write them.
        workers (int): Processes.

    Returns:
        list[str]: A line for each clip that could not be cut.
    """
    failed = []
    pool = ProcessPoolExecutor(workers, initializer=_start_worker)
    try:
        running = [pool.submit(_try_cut, segment, videos.get(segment.video_id), out,
                               config) for segment in segments]
        for future in tqdm(as_completed(running), total=len(running), unit='clip',
                           desc='cutting', mininterval=0.5):
            if future.result():
                failed.append(future.result())
    finally:  # after Ctrl-C, workers still finish the clip in hand
        pool.shutdown(cancel_futures=True)
    return sorted(failed)


def _start_worker() -> None:
    """Leave Ctrl-C to the main process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _try_cut(segment: EpicSegment, video: Path | None, out: Path,
             config: TranscodeConfig) -> str | None:
    """Cut one clip; returns why it could not be cut, if so."""
    if video is None:
        return f'{segment.clip}: no video {segment.video_id}.MP4'
    try:
        cut_clip(video, out / segment.clip, segment.start, segment.stop, config)
    except CutError as error:
        return f'{segment.clip}: video {video}: {error}'
    return None


def main(argv: Sequence[str] | None = None) -> None:
    """Run tools/data/cut_epic_clips.py.

    Args:
        argv: Options; the command line's unless given.

    Raises:
        SystemExit: With status 1 if some clips could not be cut, 2 for a user's
            mistake, 130 after Ctrl-C.
    """
    args = parser().parse_args(argv)
    try:
        with report_mistakes():
            failed, new, kept = _run(args)
    except KeyboardInterrupt:
        print('interrupted; the same command goes on from here', file=sys.stderr)
        raise SystemExit(130) from None
    print(f'{args.out}: {new} clips cut, {kept} were there, {len(failed)} failed')
    if failed:
        print(*failed, sep='\n', file=sys.stderr)
        raise SystemExit(1)


def _run(args: argparse.Namespace) -> tuple[list[str], int, int]:
    """Failures, and how many clips were cut and found there."""
    if args.workers < 1:
        raise ValueError(f'workers is {args.workers}; allowed is at least 1')
    config = TranscodeConfig(args.crf, args.preset, args.gop, args.short_side or None)
    segments = {segment.clip: segment for path in args.annotations
                for segment in read_segments(path)}
    videos = find_videos(args.videos)
    args.out.mkdir(parents=True, exist_ok=True)
    missing = [segment for name, segment in segments.items()
               if not is_clip(args.out / name)]
    # clips of one video next to each other, while the system still has it in memory
    missing.sort(key=lambda segment: (segment.video_id, segment.start))
    failed = cut_all(missing, videos, args.out, config, args.workers)
    return failed, len(missing) - len(failed), len(segments) - len(missing)


if __name__ == '__main__':
    main()
