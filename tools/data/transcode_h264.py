# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Re-encode a folder of videos for DVT: python tools/data/transcode_h264.py SRC DST.

H.264 without B-frames and with one reference, whose motion vectors all point to the
frame just before. HEVC, VP9 and AV1 give FFmpeg no motion vectors at all.
"""
import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout's package

from mmaction_tokenreduce.datasets.transcode import (  # noqa: E402
    PRESETS,
    TranscodeConfig,
    rewrite_list,
    transcode_folder,
)
from mmaction_tokenreduce.engine.user_errors import report_mistakes  # noqa: E402


def parser() -> argparse.ArgumentParser:
    """The options of tools/data/transcode_h264.py."""
    default = TranscodeConfig
    result = argparse.ArgumentParser(
        prog='transcode_h264.py',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description='Re-encode all videos of a folder to H.264 (mp4, bf=0, refs=1, no '
        'sound), keeping its tree. An interrupted run goes on where it stopped.')
    result.add_argument('source', type=Path, metavar='SRC', help='folder of videos')
    result.add_argument('target', type=Path, metavar='DST', help='folder for the new')
    result.add_argument('--crf', type=int, default=default.crf,
                        help='quality of libx264: 0 lossless to 51 worst')
    result.add_argument('--preset', default=default.preset, choices=PRESETS,
                        help='speed of libx264')
    result.add_argument('--gop', type=int, default=default.gop, metavar='FRAMES',
                        help='the most frames from one I-frame to the next')
    result.add_argument('--short-side', type=int, metavar='PIXELS',
                        help='scale the shorter side down to this')
    result.add_argument('--workers', type=int, metavar='N',
                        help='processes; one for each core unless given')
    result.add_argument('--list', type=Path, nargs='+', default=[], metavar='FILE',
                        help='annotation lists; copies in DST name the mp4 files')
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Run tools/data/transcode_h264.py.

    Args:
        argv: Options; the command line's unless given.

    Raises:
        SystemExit: With status 1 if videos failed, 2 for a user's mistake, 130 after
            Ctrl-C.
    """
    args = parser().parse_args(argv)
    try:
        with report_mistakes():
            config = TranscodeConfig(args.crf, args.preset, args.gop, args.short_side)
            for path in args.list:  # before the work
                if not path.is_file():
                    raise FileNotFoundError(f'annotation list {path} not found')
            done = transcode_folder(args.source, args.target, config, args.workers)
            for path in args.list:
                changed = rewrite_list(path, args.target / path.name)
                print(f'{args.target / path.name}: {changed} names changed')
    except KeyboardInterrupt:
        print('interrupted; the same command goes on from here', file=sys.stderr)
        raise SystemExit(130) from None
    print(f'{args.target}: {done.new} videos written, {done.kept} were there, '
          f'{len(done.failed)} failed')
    for name, reason in done.failed.items():
        print(f'failed: {args.source / name}: {reason}', file=sys.stderr)
    if done.failed:
        raise SystemExit(1)


if __name__ == '__main__':
    main()
