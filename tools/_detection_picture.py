# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What a detector finds on a keyframe, as a picture and as a video."""
import argparse
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from _keyframe_clip import KeyframeClip
from _picture import STILLS, VIDEO, Picture

from mmaction_tokenreduce.engine.user_errors import ConfigError
from mmaction_tokenreduce.models.detectors import EVAD
from mmaction_tokenreduce.visualization import (
    VideoFile,
    action_captions,
    draw_detections,
)
from mmaction_tokenreduce.whole_file import whole_file

SCORE_THR, TOP = 0.5, 5  # of actions that are named at an actor
LEAST_SIDE = 360  # px; smaller frames are enlarged, so that names fit beside boxes
HELD = 1.  # seconds for which a video stands still at the keyframe


class DetectionPicture(Picture):
    """Actors on the keyframe and the names of their actions; and the clip around it,
    with what was found on the keyframe over all of it.

    The video stands still at the keyframe for a second.
    """
    suffixes = (STILLS[0], VIDEO)
    tag = '_detections'

    def __init__(self, model: EVAD, args: argparse.Namespace,
                 names: Mapping[int, str]) -> None:
        self.score_thr = SCORE_THR if args.score_thr is None else args.score_thr
        for name in ('score_thr', 'person_thr'):
            value = getattr(args, name)
            if value is not None and not 0 <= value <= 1:
                raise ConfigError(f'--{name.replace("_", "-")} {value}: must be from 0 '
                                  'to 1')
        if args.person_thr is not None:
            model.person_thr = args.person_thr
        self.person_thr = model.person_thr
        self.names = names

    def look(self, clip: KeyframeClip, images: np.ndarray) -> None:
        self.clip = clip
        persons = clip.found.person_scores.float().cpu().numpy()
        there = persons >= self.person_thr  # the model gives all where there is nobody
        self.persons, self.boxes = persons[there], clip.boxes()[there]
        self.captions = action_captions(
            clip.found.scores.float().cpu().numpy()[there], self.names, self.score_thr,
            TOP)

    def words(self) -> str:
        number, count = self.clip.window.anchor, len(self.boxes)
        lines = [f'frame {number}, {number / self.clip.fps:.2f} s: {count} '
                 f'actor{"s" * (count != 1)}, probability {self.person_thr:g} or more']
        for i, (box, person, names) in enumerate(zip(
                self.boxes, self.persons, self.captions, strict=True)):
            shares = ', '.join(f'{side:.3f}' for side in box)
            lines.append(f'actor {i}: person {person:.2f}, box {shares}: '
                         f'{", ".join(names) or "no action"}')
        return '\n'.join(lines)

    def draw(self, path: Path, heading: str, prediction: str) -> None:
        if path.suffix.lower() != VIDEO:
            image = self._draw(self.clip.window.frames[self.clip.window.key].rgb())
            with whole_file(path) as part:
                if not cv2.imwrite(str(part), image[..., ::-1]):
                    raise OSError(f'{path} cannot be written')
            return
        fps, key = self.clip.fps, self.clip.window.anchor
        height, width = self.clip.frames[0].size
        scale = _scale(height, width)
        with VideoFile(path, fps, (scale * height, scale * width)) as video:
            for frame in self.clip.frames:
                image = self._draw(frame.rgb())
                for _ in range(max(1, round(HELD * fps)) if frame.number == key else 1):
                    video.write(image)

    def _draw(self, image: np.ndarray) -> np.ndarray:
        scale = _scale(*image.shape[:2])
        if scale > 1:
            image = cv2.resize(image, None, fx=scale, fy=scale,
                               interpolation=cv2.INTER_CUBIC)
        return draw_detections(image, self.boxes, self.captions)


def _scale(height: int, width: int) -> int:
    """How often a frame is enlarged."""
    return -(-LEAST_SIDE // min(height, width))
