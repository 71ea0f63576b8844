# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Settings of the moving actors."""
import math
from dataclasses import dataclass

# By label, which counts from 1 as in AVA. The first six exclude each other.
MOTIONS = ('still', 'move left', 'move right', 'move up', 'move down', 'shake')
RELATIONS = ('touch another', 'follow another')
CLASS_NAMES = MOTIONS + RELATIONS
SPLITS = ('train', 'val')
TOUCHING = 0.75  # distance of the centres of touching actors, in sums of their radii


@dataclass(frozen=True)
class MovingActorsConfig:
    """Settings of a data set; equal settings give equal pixels.

    Shares are of the shorter frame side. A video is a row of `keyframes` takes, and a
    model samples all frames of a take: `SampleKeyframeClip(clip_len, 1)` around its
    keyframe, which is frame clip_len / 2 of it.

    Attributes:
        seed (int): Seed of everything.
        num_train (int): Training videos.
        num_val (int): Validation videos.
        keyframes (int): Keyframes of a video.
        height (int): Frame height in pixels.
        width (int): Frame width in pixels.
        clip_len (int): Frames of a take; a multiple of 4, so that a keyframe falls
            on a whole second.
        min_actors (int): Fewest actors of a video.
        max_actors (int): Most actors of a video. Where a take has no room for all,
            the last ones are left out of it, down to two.
        min_size (float): Least diameter of an actor, as a share.
        max_size (float): Largest diameter of an actor, as a share.
        step (float): Movement from frame to frame, as a share.
        gap (float): Room between actors that do not touch, as a share.
        lane_gap (float): The most room between an actor and one that it follows, as a
            share.
        lane_width (float): How far the follower may be off the other's path, as a
            share.
        glitches (float): Probability of a take in which the camera fails: it shows no
            actors, and its keyframe is in the list of excluded timestamps.
        quality (int): JPEG quality, 1 to 100.

    Raises:
        ValueError: If a value is out of its range or does not fit the others.
    """

    seed: int = 0
    num_train: int = 200
    num_val: int = 48
    keyframes: int = 4
    height: int = 96
    width: int = 128
    clip_len: int = 8
    min_actors: int = 2
    max_actors: int = 4
    min_size: float = 0.23
    max_size: float = 0.34
    step: float = 0.033
    gap: float = 0.06
    lane_gap: float = 0.2
    lane_width: float = 0.07
    glitches: float = 0.03
    quality: int = 95

    def __post_init__(self) -> None:
        least = dict(seed=0, num_train=1, num_val=1, keyframes=1, height=32, width=32,
                     clip_len=8, min_actors=2, max_actors=2, min_size=0.05,
                     max_size=0.05, step=0.01, gap=0.01, lane_gap=0.01,
                     lane_width=0.01, glitches=0, quality=1)
        most = dict(height=1024, width=1024, max_actors=16, max_size=0.36, step=0.2,
                    gap=0.2, lane_gap=0.25, lane_width=0.25, glitches=0.5,
                    quality=100, seed=2**32 - 1)
        for key, low in least.items():
            value, high = getattr(self, key), most.get(key, math.inf)
            if not low <= value <= high:
                limit = f'at least {low}' if high == math.inf else f'{low} to {high}'
                raise ValueError(f'{key} is {value}; allowed is {limit}')
        if self.clip_len % 4:
            raise ValueError(f'clip_len is {self.clip_len}; allowed are multiples of 4')
        for low, high in (('min_actors', 'max_actors'), ('min_size', 'max_size'),
                          ('gap', 'lane_gap')):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(f'{low} is {getattr(self, low)}, more than {high}, '
                                 f'which is {getattr(self, high)}')

    @property
    def fps(self) -> int:
        """Frames in a second: keyframes are in the middle of takes of two seconds."""
        return self.clip_len // 2

    @property
    def num_frames(self) -> int:
        """Frames of a video."""
        return self.keyframes * self.clip_len

    @property
    def timestamp_end(self) -> int:
        """Seconds of a video, which begins at timestamp 0."""
        return 2 * self.keyframes

    @property
    def short_side(self) -> int:
        """The shorter frame side in pixels, which the shares refer to."""
        return min(self.height, self.width)

    def timestamp(self, take: int) -> int:
        """The second at which the keyframe of a take, counted from 0, stands."""
        return 2 * take + 1

    def count(self, split: str) -> int:
        """Videos of the split 'train' or 'val'."""
        return {'train': self.num_train, 'val': self.num_val}[split]
