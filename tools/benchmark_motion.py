# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""How exact displacement fields of compressed videos are, as tables in Markdown.

The first: median error in px over the places of a textured square that moves, the worst
of three velocities and two grounds (textured, plain), by the number of frames spanned.
The second, of the videos given: mean absolute RGB difference of a sampled frame to the
one before it, without and with motion compensation by the fields; in brackets with DIS
optical flow between the sampled frames instead.
"""
import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import _checkout  # noqa: F401
import numpy as np
import torch

from mmaction_tokenreduce.datasets import BadVideoError
from mmaction_tokenreduce.datasets.motion_stream import (
    Decoded,
    MotionReader,
    flow_fields,
)
from mmaction_tokenreduce.datasets.moving_square import (
    ENCODINGS,
    FRACTION_VELOCITIES,
    SPANS,
    WHOLE_VELOCITIES,
    MovingSquare,
    encode,
    median_errors,
)
from mmaction_tokenreduce.visualization.motion_overlays import residuals

SPACING = 4  # px from one point of a field to the next


def worst_errors(name: str, velocities: Sequence[tuple[float, float]],
                 folder: Path) -> list[float]:
    """Median errors in px by span, the worst of some squares in one encoding."""
    _, codec, options = ENCODINGS[name]
    errors = []
    for velocity in velocities:
        for plain in (False, True):
            video = MovingSquare(velocity, plain)
            path = encode(folder / f'{name}.mp4', video.frames, codec, **options)
            errors.append(median_errors(video, path, SPACING)[0])
    return [max(error[span] for error in errors) for span in SPANS]


def square_table(names: Sequence[str]) -> list[str]:
    """Lines of the first table."""
    lines = ['| codec | whole pixels | fractions |', '| --- | --- | --- |']
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            cells = [' '.join(f'{error:.2f}' for error in worst_errors(
                name, velocities, Path(folder)))
                for velocities in (WHOLE_VELOCITIES, FRACTION_VELOCITIES)]
            lines.append(f'| {ENCODINGS[name].title} | {cells[0]} | {cells[1]} |')
    return lines


def rest(imgs: Sequence[np.ndarray], fields: np.ndarray) -> tuple[float, float]:
    """Mean absolute difference to the frame before, without motion and with it.

    Args:
        imgs: F frames, each (H, W, 3) uint8.
        fields (np.ndarray): (F, h, w, 2) px, from each frame to the one before.
    """
    sums = np.zeros(2)
    motion = torch.from_numpy(fields).permute(0, 3, 1, 2)
    for at in range(1, len(imgs)):
        pair = slice(at - 1, at + 1)
        moved, still = residuals(np.stack(imgs[pair]), motion[pair])
        sums += [np.abs(part[1]).mean(dtype=float) for part in (still, moved)]
    return tuple(sums / (len(imgs) - 1))


def video_row(path: str, intervals: Sequence[int]) -> str:
    """A line of the second table."""
    reader = MotionReader(path)
    cells = []
    for interval in intervals:
        inds = np.arange(0, reader.total_frames, interval)
        if len(inds) < 2:
            raise BadVideoError(f'video {path} has {reader.total_frames} frames; an '
                                f'interval of {interval} needs at least {interval + 1}')
        read = reader.read(inds, len(inds), SPACING)
        still, moved = rest(read.imgs, read.fields)
        flow = flow_fields(read.imgs, inds, len(inds), SPACING, 'dis')
        cells.append(f'{still:.2f}, {moved:.2f} ({rest(read.imgs, flow)[1]:.2f})')
    return f'| `{Path(path).name}` ({_kind(read)}) | {" | ".join(cells)} |'


def _kind(read: Decoded) -> str:
    """What a stream is, as far as its motion is concerned."""
    flags = read.flags
    words = [flags['codec']]
    if flags['no_vectors']:
        return f'{flags["codec"]}, no vectors'
    if flags['references'] > 1:
        words.append(f'{flags["references"]} references')
    if flags['b_frames']:
        words.append('B-frames')
    return ', '.join(words)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('videos', nargs='*', metavar='VIDEO')
    parser.add_argument('--encodings', nargs='+', choices=ENCODINGS, metavar='NAME',
                        default=list(ENCODINGS),
                        help='rows of the first table, of %(choices)s; default: all')
    parser.add_argument('--intervals', nargs='+', type=int, default=[1, 4], metavar='N',
                        help='columns of the second table: frames from one sampled '
                        'frame to the next; default: 1 4')
    args = parser.parse_args(arguments)
    if min(args.intervals) < 1:
        parser.error('--intervals takes numbers of at least 1')
    try:
        rows = [video_row(video, args.intervals) for video in args.videos]
    except BadVideoError as error:
        parser.error(str(error))
    print('\n'.join(square_table(args.encodings)))
    if rows:
        heads = ['every frame' if interval == 1 else f'every {interval} frames'
                 for interval in args.intervals]
        print(f'\n| video | {" | ".join(heads)} |\n|{" --- |" * (len(heads) + 1)}')
        print('\n'.join(rows))


if __name__ == '__main__':
    main()
