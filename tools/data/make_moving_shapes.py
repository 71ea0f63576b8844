# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Make the demo's video data set: python tools/data/make_moving_shapes.py OUT.

What it shows, and why: mmaction_tokenreduce/datasets/moving_shapes/__init__.py.
"""
import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# this checkout's package, and what the generators share
sys.path[:0] = [str(Path(__file__).resolve().parents[i]) for i in (2, 0)]

import cv2  # noqa: E402
import numpy as np  # noqa: E402
from _generate import generate  # noqa: E402

from mmaction_tokenreduce.datasets.moving_shapes import (  # noqa: E402
    CLASS_NAMES,
    MovingShapesConfig,
    render_clip,
    write_dataset,
)

PREVIEW_SIZE = 88  # pixels that the shorter side of a previewed frame has at least
BACKGROUND, TEXT, ACTION = (255, 255, 255), (40, 40, 40), (0, 90, 235)


def parser() -> argparse.ArgumentParser:
    """The options of tools/data/make_moving_shapes.py."""
    default = MovingShapesConfig
    result = argparse.ArgumentParser(
        prog='make_moving_shapes.py',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description='Make short H.264 videos of eight motions, and lists of them. '
        'An interrupted run goes on where it stopped.')
    result.add_argument('out', type=Path, help='folder for the data set')
    result.add_argument('--seed', type=int, default=default.seed,
                        help='equal seeds give equal videos')
    result.add_argument('--num-train', type=int, default=default.num_train,
                        help='training videos')
    result.add_argument('--num-val', type=int, default=default.num_val,
                        help='validation videos')
    result.add_argument('--size', type=int, nargs='+', metavar='PIXELS',
                        default=[default.height, default.width],
                        help='frame height and width; one number for a square')
    result.add_argument('--clip-len', type=int, default=default.clip_len,
                        help='frames that a model samples from a video')
    result.add_argument('--stride', type=int, default=default.stride,
                        help='video frames from one sampled frame to the next')
    result.add_argument('--action', type=int, nargs=2, metavar=('MIN', 'MAX'),
                        default=[default.min_action, default.max_action],
                        help='how many of the sampled frames hold the action')
    result.add_argument('--crf', type=int, default=default.crf,
                        help='quality of libx264: 0 lossless to 51 worst')
    result.add_argument('--workers', type=int, metavar='N',
                        help='processes; one for each core unless given')
    result.add_argument('--preview', type=Path, metavar='FILE.png',
                        help='also save a picture of one training video a class')
    return result


def settings(args: argparse.Namespace) -> MovingShapesConfig:
    """The data set's settings from the command line.

    Raises:
        ValueError: If a setting cannot be used.
    """
    if len(args.size) > 2:
        raise ValueError(f'--size takes one or two numbers, got {len(args.size)}')
    return MovingShapesConfig(
        seed=args.seed, num_train=args.num_train, num_val=args.num_val,
        height=args.size[0], width=args.size[-1], clip_len=args.clip_len,
        stride=args.stride, min_action=args.action[0], max_action=args.action[1],
        crf=args.crf)


def preview(config: MovingShapesConfig) -> np.ndarray:
    """One clip a class as a strip of its sampled frames, from left to right.

    All show the scene of the first training clip, so that the motion is all that
    differs. Frames with the action have a blue border, and blue dots where the centre
    of the shape has been.

    Args:
        config (MovingShapesConfig): Settings.

    Returns:
        np.ndarray: (height, width, 3) uint8 RGB.
    """
    zoom = -(-PREVIEW_SIZE // config.short_side)
    first = config.spare_frames // 2
    sampled = range(first, first + config.clip_len * config.stride, config.stride)
    rows = []
    for label, name in enumerate(CLASS_NAMES):
        frames, _, info = render_clip(config, 0, 'train', label)
        cells = []
        for number in sampled:
            cell = frames[number].repeat(zoom, axis=0).repeat(zoom, axis=1)
            for centre in _trail(info, number, config.stride):
                cv2.circle(cell, np.rint(centre * zoom).astype(int).tolist(), 2,
                           ACTION, cv2.FILLED, cv2.LINE_AA)
            border = ACTION if info['visible'][number] else BACKGROUND
            cells.append(_framed(cell, 3, border))
        strip = np.concatenate(cells, axis=1)
        caption = np.full((28, strip.shape[1], 3), BACKGROUND, np.uint8)
        cv2.putText(caption, name.replace('_', ' '), (4, 20), cv2.FONT_HERSHEY_SIMPLEX,
                    0.5, TEXT, 1, cv2.LINE_AA)
        rows += [caption, strip]
    return _framed(np.concatenate(rows), 8, BACKGROUND)


def _trail(info: dict[str, Any], number: int, stride: int) -> list[np.ndarray]:
    """Centres (2,) that the shape had since it appeared, up to a frame."""
    if not info['visible'][number]:
        return []
    centres = (info['boxes'][:, :2] + info['boxes'][:, 2:]) / 2
    return list(centres[np.arange(number, info['action'][0] - 1, -stride)])


def _framed(image: np.ndarray, width: int, colour: tuple[int, int, int]) -> np.ndarray:
    return cv2.copyMakeBorder(image, *[width] * 4, cv2.BORDER_CONSTANT, value=colour)


def main(argv: Sequence[str] | None = None) -> None:
    """Run tools/data/make_moving_shapes.py; see `generate`."""
    generate(parser().parse_args(argv), settings, preview, write_dataset)


if __name__ == '__main__':
    main()
