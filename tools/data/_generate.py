# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What the commands that generate data sets share: their run, their picture."""
import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mmaction_tokenreduce.datasets.generated import Written, write_whole
from mmaction_tokenreduce.engine.user_errors import report_mistakes


def generate(args: argparse.Namespace, settings: Callable[[argparse.Namespace], Any],
             preview: Callable[[Any], np.ndarray],
             write_dataset: Callable[..., Written]) -> None:
    """Write a data set, and a picture of it where one is asked for.

    Args:
        args (Namespace): Of the command, with `out`, `workers` and `preview`.
        settings (Callable): The data set's settings from args.
        preview (Callable): Their picture, (height, width, 3) uint8 RGB.
        write_dataset (Callable): Writes it, given folder, settings and workers.

    Raises:
        SystemExit: With status 2 for a user's mistake, 130 after Ctrl-C.
    """
    try:
        with report_mistakes():
            config = settings(args)
            if args.preview:
                _save_png(args.preview, preview, config)
            written = write_dataset(args.out, config, args.workers)
    except KeyboardInterrupt:
        print('interrupted; the same command goes on from here', file=sys.stderr)
        raise SystemExit(130) from None
    print(f'{args.out}: {written.new} videos written, {written.kept} were there')


def _save_png(path: Path, preview: Callable[[Any], np.ndarray], config: Any) -> None:
    if path.suffix.lower() != '.png':
        raise ValueError(f'--preview {path}: the name must end in .png')
    _, data = cv2.imencode('.png', preview(config)[..., ::-1])
    write_whole(path, data.tobytes())
