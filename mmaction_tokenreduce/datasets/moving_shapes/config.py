# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Settings of the moving shapes."""
import math
from dataclasses import dataclass

# Opposite motions are neighbours: label ^ 1 is the reverse of label.
CLASS_NAMES = ('move_left', 'move_right', 'move_up', 'move_down',
               'rotate_clockwise', 'rotate_counterclockwise', 'grow', 'shrink')
SPLITS = ('train', 'val')
SHAKE_LIMIT = 2.0  # shaking is cut off at so many standard deviations

_PRESETS = ('ultrafast', 'superfast', 'veryfast', 'faster', 'fast', 'medium', 'slow',
            'slower', 'veryslow')


@dataclass(frozen=True)
class MovingShapesConfig:
    """Settings of a data set; equal settings give equal pixels.

    Shares are of the shorter frame side. The defaults fit mmaction2's
    `SampleFrames(clip_len=16, frame_interval=2, num_clips=1)`: it covers the video up
    to `spare_frames`, and the action lies in every clip that it can draw.

    Attributes:
        seed (int): Seed of everything.
        num_train (int): Training videos.
        num_val (int): Validation videos.
        height (int): Frame height in pixels, even.
        width (int): Frame width in pixels, even. (decord 0.6.0 cannot read some small
            widths: of 18 from 32 to 340 it failed at 48 and 72.)
        clip_len (int): Frames that a model samples from a video.
        stride (int): Video frames from one sampled frame to the next.
        spare_frames (int): Video frames beyond clip_len * stride, so that the clip's
            beginning can vary.
        min_action (int): Fewest sampled frames that hold the action.
        max_action (int): Most sampled frames that hold the action.
        step (float): Movement in a sampled frame, as a share.
        turn (float): Rotation in a sampled frame, in degrees.
        min_size (float): Least diameter of the actor, as a share.
        max_size (float): Largest diameter of the actor, as a share.
        shake (float): Standard deviation of a random shaking that every actor has in
            place (in steps), angle (in turns) and size, whatever its class.
        max_distractors (int): Most distractors beside the action, and again in its
            place before and after it. Zero of each can be drawn.
        fps (int): Frame rate of the files.
        crf (int): Quality of libx264: 0 lossless to 51 worst.
        preset (str): Speed preset of libx264.

    Raises:
        ValueError: If a value is out of its range or does not fit the others.
    """

    seed: int = 0
    num_train: int = 4000
    num_val: int = 320
    height: int = 64
    width: int = 64
    clip_len: int = 16
    stride: int = 2
    spare_frames: int = 2
    min_action: int = 6
    max_action: int = 8
    step: float = 0.045
    turn: float = 24.0
    min_size: float = 0.22
    max_size: float = 0.42
    shake: float = 0.05
    max_distractors: int = 3
    fps: int = 25
    crf: int = 16
    preset: str = 'veryfast'

    def __post_init__(self) -> None:
        least = dict(seed=0, num_train=1, num_val=1, height=32, width=32, clip_len=4,
                     stride=1, spare_frames=0, min_action=4, max_action=4, step=0.01,
                     turn=1, min_size=0.05, max_size=0.05, shake=0,
                     max_distractors=0, fps=1, crf=0)
        most = dict(height=1024, width=1024, turn=45, max_size=0.5, shake=1,
                    max_distractors=16, fps=240, crf=51, seed=2**32 - 1)
        for key, low in least.items():
            value, high = getattr(self, key), most.get(key, math.inf)
            if not low <= value <= high:
                limit = f'at least {low}' if high == math.inf else f'{low} to {high}'
                raise ValueError(f'{key} is {value}; allowed is {limit}')
        if self.preset not in _PRESETS:
            raise ValueError(f'preset is {self.preset!r}; allowed are '
                             f'{", ".join(_PRESETS)}')
        for key in ('height', 'width'):
            if getattr(self, key) % 2:
                raise ValueError(f'{key} is {getattr(self, key)}; yuv420p video needs '
                                 'an even number of pixels')
        if self.min_action > self.max_action:
            raise ValueError(f'min_action is {self.min_action}, more than max_action, '
                             f'which is {self.max_action}')
        if self.max_action > self.clip_len - self.late_start:
            raise ValueError(
                f'max_action is {self.max_action}, but the clip has room for '
                f'{self.clip_len - self.late_start} (clip_len {self.clip_len}, '
                f'spare_frames {self.spare_frames}, stride {self.stride})')
        if self.min_size >= self.max_size:
            raise ValueError(f'min_size is {self.min_size}, not less than max_size, '
                             f'which is {self.max_size}')
        if self.reach(self.max_action) > self.short_side:
            raise ValueError(
                f'the longest action needs {self.reach(self.max_action):.0f} pixels, '
                f'but the frame is {self.height}x{self.width}; lower max_action, '
                'step or max_size')

    @property
    def num_frames(self) -> int:
        """Frames of a video."""
        return self.clip_len * self.stride + self.spare_frames

    @property
    def short_side(self) -> int:
        """The shorter frame side in pixels, which the shares refer to."""
        return min(self.height, self.width)

    @property
    def late_start(self) -> int:
        """Sampled frames at the beginning that must stay free of the action."""
        return -(-self.spare_frames // self.stride)

    def reach(self, frames: int) -> float:
        """Side in pixels of the square that an action of `frames` cannot leave."""
        shake = SHAKE_LIMIT * self.shake
        travel = (frames - 1 / self.stride + 2 * shake) * self.step
        return self.short_side * (travel + self.max_size * self.growth(frames) ** shake)

    def growth(self, frames: int) -> float:
        """Factor by which a growing actor gains in a sampled frame."""
        steps = frames * self.stride
        return (self.max_size / self.min_size) ** (self.stride / (steps - 1))

    def count(self, split: str) -> int:
        """Videos of the split 'train' or 'val'."""
        return {'train': self.num_train, 'val': self.num_val}[split]
