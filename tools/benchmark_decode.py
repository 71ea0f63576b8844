# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Frame rate of decoding with displacement fields against decoding alone, in one run.

Both decode every frame of the video with PyAV on one thread and convert every
`--interval`-th to RGB. `fields` also traces the motion from each of these to the one
before it, through all frames between. A loop that does nothing but that decode is the
baseline.
"""
import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import _checkout  # noqa: F401
import av
import numpy as np

from mmaction_tokenreduce.datasets import BadVideoError
from mmaction_tokenreduce.datasets.motion_stream import MotionReader
from mmaction_tokenreduce.datasets.transcode import TranscodeConfig, transcode


def decode_alone(path: str, interval: int) -> int:
    """Decode a video, RGB for every `interval`-th frame; the number of frames."""
    count, images = 0, []
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = 'SLICE', 1
        for frame in container.decode(stream):
            if count % interval == 0:
                rgb = frame.reformat(format='rgb24', threads=1)
                images.append(rgb.to_ndarray())
            count += 1
    return count


def decode_with_fields(reader: MotionReader, interval: int, spacing: float) -> int:
    """The same, and the fields between these frames; the number of frames."""
    inds = np.arange(0, reader.total_frames, interval)
    reader.read(inds, len(inds), spacing)
    return int(inds[-1]) + 1


def measure(path: str, interval: int, spacing: float, turns: int) -> dict:
    """Median frames a second of both, in turns, and their ratio."""
    reader = MotionReader(path)
    rates = dict(alone=[], fields=[])
    for turn in range(turns + 1):
        for name, call in (('alone', lambda: decode_alone(path, interval)),
                           ('fields', lambda: decode_with_fields(reader, interval,
                                                                 spacing))):
            start = time.perf_counter()
            frames = call()
            if turn:  # the first turn warms up
                rates[name].append(frames / (time.perf_counter() - start))
    result = {name: statistics.median(values) for name, values in rates.items()}
    flags = reader.read(np.arange(0, reader.total_frames, interval),
                        -(-reader.total_frames // interval), spacing).flags
    return dict(result, ratio=result['fields'] / result['alone'],
                frames=reader.total_frames, codec=reader.codec,
                references=flags['references'], b_frames=flags['b_frames'] > 0)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('videos', nargs='+', metavar='VIDEO')
    parser.add_argument('--interval', type=int, default=4,
                        help='frames from one RGB frame to the next')
    parser.add_argument('--spacing', type=float, default=4,
                        help='distance of the traced points in px')
    parser.add_argument('--turns', type=int, default=9)
    parser.add_argument('--transcode', action='store_true',
                        help='measure on copies made as tools/data/transcode_h264.py '
                        'does')
    parser.add_argument('--json', action='store_true')
    args = parser.parse_args(arguments)
    if args.turns < 1 or args.interval < 1 or args.spacing <= 0:
        parser.error('--turns, --interval and --spacing take numbers of at least 1')
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, video in enumerate(args.videos):
            path = video
            try:
                if args.transcode:
                    path = str(Path(folder) / f'{number}.mp4')
                    transcode(video, path, TranscodeConfig(crf=23))
                results[video] = measure(path, args.interval, args.spacing, args.turns)
            except BadVideoError as error:
                parser.error(str(error))
            except ValueError as error:
                parser.error(f'video {video} cannot be read: {error}')
    if args.json:
        print(json.dumps(results))
        return
    print(f'RGB of every {args.interval}. frame, points every {args.spacing:g} px, one '
          f'thread, medians of {args.turns} turns, frames a second')
    for video, row in results.items():
        print(f'{Path(video).name}: alone {row["alone"]:.0f}, with fields '
              f'{row["fields"]:.0f}, ratio {row["ratio"]:.2f} ({row["codec"]}, '
              f'{row["references"]} references, '
              f'{"" if row["b_frames"] else "no "}B-frames)')


if __name__ == '__main__':
    main()
