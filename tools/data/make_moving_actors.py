# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Make EVAD's demo data set: python tools/data/make_moving_actors.py OUT.

What it shows, and why: mmaction_tokenreduce/datasets/moving_actors/__init__.py.
"""
import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# this checkout's package, and what the generators share
sys.path[:0] = [str(Path(__file__).resolve().parents[i]) for i in (2, 0)]

import cv2  # noqa: E402
import numpy as np  # noqa: E402
from _generate import generate  # noqa: E402

from mmaction_tokenreduce.datasets.moving_actors import (  # noqa: E402
    CLASS_NAMES,
    MovingActorsConfig,
    boxes,
    draw_video,
    labels,
    render_take,
    write_dataset,
)

PREVIEW_SIZE = 192  # pixels that the shorter side of a previewed frame has at least
PREVIEW_TAKES = 4
PALETTE = [(0, 90, 235), (20, 130, 40), (160, 0, 160), (0, 0, 0)]
BACKGROUND = (255, 255, 255)


def parser() -> argparse.ArgumentParser:
    """The options of tools/data/make_moving_actors.py."""
    default = MovingActorsConfig
    result = argparse.ArgumentParser(
        prog='make_moving_actors.py',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description='Draw actors that move, touch and follow each other, and annotate '
        'them as AVA is annotated. An interrupted run goes on where it stopped.')
    result.add_argument('out', type=Path, help='folder for the data set')
    result.add_argument('--seed', type=int, default=default.seed,
                        help='equal seeds give equal frames')
    result.add_argument('--num-train', type=int, default=default.num_train,
                        help='training videos')
    result.add_argument('--num-val', type=int, default=default.num_val,
                        help='validation videos')
    result.add_argument('--keyframes', type=int, default=default.keyframes,
                        help='keyframes of a video')
    result.add_argument('--size', type=int, nargs=2, metavar=('HEIGHT', 'WIDTH'),
                        default=[default.height, default.width],
                        help='pixels of a frame')
    result.add_argument('--clip-len', type=int, default=default.clip_len,
                        help='frames around a keyframe, a multiple of 4')
    result.add_argument('--actors', type=int, nargs=2, metavar=('MIN', 'MAX'),
                        default=[default.min_actors, default.max_actors],
                        help='how many actors a video has')
    result.add_argument('--workers', type=int, metavar='N',
                        help='processes; one for each core unless given')
    result.add_argument('--preview', type=Path, metavar='FILE.png',
                        help='also save a picture of the first training video')
    return result


def settings(args: argparse.Namespace) -> MovingActorsConfig:
    """The data set's settings from the command line.

    Raises:
        ValueError: If a setting cannot be used.
    """
    return MovingActorsConfig(
        seed=args.seed, num_train=args.num_train, num_val=args.num_val,
        keyframes=args.keyframes, height=args.size[0], width=args.size[1],
        clip_len=args.clip_len, min_actors=args.actors[0], max_actors=args.actors[1])


def preview(config: MovingActorsConfig) -> np.ndarray:
    """The first takes of the first training video, one below the other.

    Keyframes have boxes, the number of the actor in them and a caption of what each
    actor does.

    Args:
        config (MovingActorsConfig): Settings.

    Returns:
        np.ndarray: (height, width, 3) uint8 RGB.
    """
    zoom = -(-PREVIEW_SIZE // config.short_side)
    video = draw_video(config, 0, 'train')
    rows = []
    for number, take in enumerate(video.takes[:PREVIEW_TAKES]):
        cells = list(render_take(config, video, number).repeat(zoom, 1).repeat(zoom, 2))
        key, texts = cells[config.clip_len // 2], []
        for actor, ids in zip(take.actors, labels(config, take), strict=True):
            colour = PALETTE[actor.entity % len(PALETTE)]
            box = np.rint(boxes(config, actor)[config.clip_len // 2] * zoom)
            left, top, right, bottom = box.astype(int).tolist()
            cv2.rectangle(key, (left, top), (right, bottom), colour, 2)
            cv2.putText(key, str(actor.entity), (left + 3, top + 15),
                        cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)
            names = ' + '.join(CLASS_NAMES[label - 1] for label in ids)
            texts.append((f'{actor.entity} {names}', colour))
        if take.glitch:
            texts = [('excluded: the camera fails', PALETTE[0])]
        strip = np.concatenate([cv2.copyMakeBorder(
            cell, *[3] * 4, cv2.BORDER_CONSTANT, value=BACKGROUND) for cell in cells],
            axis=1)
        rows += [_caption(texts, strip.shape[1]), strip]
    return np.concatenate(rows)


def _caption(texts: list[tuple[str, tuple[int, int, int]]], width: int) -> np.ndarray:
    image = np.full((28, width, 3), BACKGROUND, np.uint8)
    for place, (text, colour) in enumerate(texts):
        cv2.putText(image, text, (6 + place * width // len(texts), 20),
                    cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)
    return image


def main(argv: Sequence[str] | None = None) -> None:
    """Run tools/data/make_moving_actors.py; see `generate`."""
    generate(parser().parse_args(argv), settings, preview, write_dataset)


if __name__ == '__main__':
    main()
