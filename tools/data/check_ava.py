# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Check annotations of AVA's format against frames on disk, before training ends at mAP
0: python tools/data/check_ava.py ann.csv --frames FRAMES --label-map map.pbtxt

A line for each kind of fault: where it is first, what to do, how many more there are.
Where all is well: what is in the set, and the arguments of dataset and metric.
"""
import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout's package

from tqdm import tqdm  # noqa: E402

from mmaction_tokenreduce.datasets.ava_annotations import read_lines  # noqa: E402
from mmaction_tokenreduce.datasets.ava_check import Check, Settings  # noqa: E402
from mmaction_tokenreduce.engine.user_errors import report_mistakes  # noqa: E402


def parser() -> argparse.ArgumentParser:
    """The options of tools/data/check_ava.py."""
    result = argparse.ArgumentParser(
        prog='check_ava.py', formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description='Check annotations of AVA format, and the frames they stand for. '
        'Status 1 if something must be mended.')
    result.add_argument('ann_file', metavar='CSV',
                        help='video_id,timestamp,x1,y1,x2,y2,label,entity_id')
    result.add_argument('--frames', metavar='FOLDER',
                        help='a folder of frames for each video is in it')
    result.add_argument('--label-map', metavar='PBTXT', help='names and ids')
    result.add_argument('--exclude', metavar='CSV', help='video_id,timestamp')
    result.add_argument('--num-classes', type=int, metavar='N',
                        help='classes plus 1; the largest id plus 1 unless given')
    result.add_argument('--fps', type=int, default=30,
                        help='frames a second; 1 where timestamps count frames')
    result.add_argument('--timestamp-start', type=int, default=900, metavar='SECOND',
                        help='timestamp of the first frame')
    result.add_argument('--timestamp-end', type=int, default=1800, metavar='SECOND',
                        help='timestamp at which videos end')
    result.add_argument('--filename-tmpl', metavar='TEMPLATE',
                        help='as img_{:05}.jpg; that of the first folder unless given')
    result.add_argument('--start-index', type=int, metavar='N',
                        help='number of the first frame; likewise')
    result.add_argument('--clip', type=int, nargs=2, default=[16, 4],
                        metavar=('LEN', 'INTERVAL'), help='frames that are sampled')
    return result


def check(args: argparse.Namespace) -> Check:
    """Run all checks.

    Raises:
        FileNotFoundError: If a file or the folder does not exist.
        ValueError: If an option cannot be used.
    """
    for path in (args.ann_file, args.label_map, args.exclude):
        if path is not None and not os.path.isfile(path):
            raise FileNotFoundError(f'{path} not found')
    if args.frames is not None and not os.path.isdir(args.frames):
        raise FileNotFoundError(f'folder {args.frames} not found')
    if args.fps < 1 or args.timestamp_end <= args.timestamp_start:
        raise ValueError(f'--fps {args.fps} must be at least 1, and --timestamp-end '
                         f'{args.timestamp_end} above --timestamp-start '
                         f'{args.timestamp_start}')
    result = Check(Settings(
        args.ann_file, args.label_map, args.exclude, args.frames, args.num_classes,
        args.fps, args.timestamp_start, args.timestamp_end, args.filename_tmpl,
        args.start_index, *args.clip))
    result.check_label_map()
    result.check_lines(tqdm(read_lines(args.ann_file), desc='annotations', unit='line',
                            mininterval=0.5))
    result.check_boxes()
    result.check_excluded()
    if not result.failed:  # else classes may only seem to be missing
        result.check_classes()
    if args.frames is not None:
        result.check_frames(tqdm(result.videos(), desc='frames', unit='video',
                                 mininterval=0.5))
    return result


def report(result: Check) -> None:
    """Print what was found."""
    for finding in sorted(result.findings.values(), key=lambda one: not one.error):
        level = 'error' if finding.error else 'warning'
        more = f' ({finding.count - 1} more)' if finding.count > 1 else ''
        print(f'{level}: {f"{finding.place} {finding.text}".strip()}{more}')
    if not result.failed:
        print(*result.summary(), sep='\n')


def main(argv: Sequence[str] | None = None) -> None:
    """Run tools/data/check_ava.py.

    Args:
        argv: Options; the command line's unless given.

    Raises:
        SystemExit: With status 1 if something must be mended, 2 for a user's mistake,
            130 after Ctrl-C.
    """
    args = parser().parse_args(argv)
    try:
        with report_mistakes():
            result = check(args)
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        raise SystemExit(130) from None
    report(result)
    if result.failed:
        raise SystemExit(1)


if __name__ == '__main__':
    main()
