# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""From settings and a clip's number to its frames."""
from typing import Any, NamedTuple

import cv2
import numpy as np

from .config import CLASS_NAMES, SHAKE_LIMIT, SPLITS, MovingShapesConfig
from .drawing import OUTLINES, Look, draw_stamp

# By label: what the class moves along its path, and which way.
_MOTIONS = (('x', -1), ('x', 1), ('y', -1), ('y', 1),
            ('angle', 1), ('angle', -1), ('size', 1), ('size', -1))


class Distractor(NamedTuple):
    """A plain shape: place and diameter in pixels, angle, frames that show it (T,)."""

    look: Look
    x: float
    y: float
    size: float
    angle: float
    visible: np.ndarray


class Scene(NamedTuple):
    """All of a clip but its class. M is the action's length in video frames.

    Attributes:
        start (int): First video frame of the action.
        paths (dict): For each of x, y (pixels), size (pixels) and angle (degrees) the
            (M,) values that it goes through, one way or the other, if the class
            moves it.
        phases (dict): For each of them the index in its path at which it rests if the
            class does not move it; the angle also turns from there if it does.
        shaking (dict): For each of them (M,) values to add (size: to multiply with).
        look (Look): The actor's appearance.
        distractors (list[Distractor]): The other shapes.
        ground (np.ndarray): (H, W, 3) float32, RGB.
    """

    start: int
    paths: dict[str, np.ndarray]
    phases: dict[str, int]
    shaking: dict[str, np.ndarray]
    look: Look
    distractors: list[Distractor]
    ground: np.ndarray


def label_of(index: int) -> int:
    """Class of the clip with this index: the classes take turns, so they balance."""
    return index % len(CLASS_NAMES)


def draw_scene(config: MovingShapesConfig, index: int, split: str) -> Scene:
    """Draw everything of a clip that does not depend on its class.

    Args:
        config (MovingShapesConfig): Settings.
        index (int): Number of the clip in its split, from 0.
        split (str): 'train' or 'val'.

    Returns:
        Scene: The same for the same arguments, whatever was drawn before.

    Raises:
        ValueError: If the split is unknown or the index negative.
    """
    if split not in SPLITS or index < 0:
        raise ValueError(f'no clip {index} in split {split!r}: splits are '
                         f'{", ".join(SPLITS)}, clips are counted from 0')
    rng = np.random.default_rng((config.seed, SPLITS.index(split), index))
    frames = int(rng.integers(config.min_action, config.max_action + 1))
    steps = frames * config.stride
    latest = config.clip_len * config.stride - steps
    start = int(rng.integers(config.spare_frames, latest + 1))
    side = config.reach(frames)
    centre = rng.uniform((side / 2, side / 2),
                         (config.width - side / 2, config.height - side / 2))
    paths = _draw_paths(config, rng, centre, steps)
    phases = {name: int(rng.integers(steps)) for name in paths}
    return Scene(start, paths, phases, _draw_shaking(config, rng, steps),
                 draw_actor_look(rng),
                 _draw_distractors(config, rng, centre, side, start, steps),
                 draw_ground(config.height, config.width, rng))


def _draw_paths(config: MovingShapesConfig, rng: np.random.Generator,
                centre: np.ndarray, steps: int) -> dict[str, np.ndarray]:
    """`Scene.paths` of an action of `steps` video frames around a centre (2,)."""
    way = (np.arange(steps) - (steps - 1) / 2) * config.step / config.stride
    sizes = np.geomspace(config.min_size, config.max_size, steps)
    turns = np.arange(steps) * config.turn / config.stride
    return dict(x=centre[0] + way * config.short_side,
                y=centre[1] + way * config.short_side,
                size=sizes * config.short_side,
                angle=rng.uniform(0, 360) + turns)


def _draw_shaking(config: MovingShapesConfig, rng: np.random.Generator,
                  steps: int) -> dict[str, np.ndarray]:
    """`Scene.shaking` of an action of `steps` video frames."""
    shakes = config.shake * np.clip(rng.standard_normal((4, steps)),
                                    -SHAKE_LIMIT, SHAKE_LIMIT)
    step = config.step * config.short_side
    growth = config.growth(steps // config.stride)
    return dict(x=shakes[0] * step, y=shakes[1] * step, size=growth ** shakes[2],
                angle=shakes[3] * config.turn)


def draw_actor_look(rng: np.random.Generator) -> Look:
    """Yellow and red, on a checkerboard.

    Nothing else is more than tinted, so that a tiny network finds the actor with one
    linear filter: red is at least 195 in both colours, and less in the ground and the
    distractors. Green differs, so it shows the texture, needed to see a disc turn.
    """
    colours = np.array([(235, 205, 60), (215, 70, 40)]) + rng.uniform(-20, 20, (2, 3))
    return Look(OUTLINES[rng.integers(len(OUTLINES))],
                rng.permutation(colours).astype(np.float32))


def _draw_distractors(config: MovingShapesConfig, rng: np.random.Generator,
                      centre: np.ndarray, side: float, start: int,
                      steps: int) -> list[Distractor]:
    """Distractors beside the action's square, and in it before and after the action.

    Args:
        config (MovingShapesConfig): Settings.
        rng (np.random.Generator): Source of randomness.
        centre (np.ndarray): (2,), x and y of the square's centre in pixels.
        side (float): Side of the square in pixels.
        start (int): First video frame of the action.
        steps (int): Video frames of the action.

    Returns:
        list[Distractor]: In drawing order.
    """
    beside = rng.integers(config.max_distractors + 1)
    inside = rng.integers(config.max_distractors + 1)
    shapes = []
    for number in range(beside + inside):
        size = rng.uniform(0.25, 0.45) * config.max_size * config.short_side
        visible = _draw_visibility(config, rng)
        if number < beside:
            place = _draw_place_beside(config, rng, centre, side, size)
            if place is None:
                continue
        else:
            place = centre + rng.uniform(-0.5, 0.5, 2) * (side - size)
            visible[start:start + steps] = False
        # Darker or lighter than the ground, but less red than the actor (at most 187).
        grey = rng.uniform(*((45, 70), (155, 175))[rng.integers(2)])
        colour = (grey + rng.uniform(-12, 12, 3)).astype(np.float32)
        look = Look(OUTLINES[rng.integers(len(OUTLINES))],
                    np.stack([colour, colour]))
        shapes.append(Distractor(look, *place, size, rng.uniform(0, 360), visible))
    return shapes


def _draw_visibility(config: MovingShapesConfig,
                     rng: np.random.Generator) -> np.ndarray:
    """(T,) bool: always (a shape that stands still), or on and off (one that flickers).

    A flickering shape stays on or off for 1 to 3 sampled frames at a time.
    """
    if rng.integers(2):
        return np.ones(config.num_frames, bool)
    runs = rng.integers(1, 4, config.num_frames) * config.stride
    on = (np.arange(config.num_frames) + rng.integers(2)) % 2 == 0
    return np.repeat(on, runs)[:config.num_frames]


def _draw_place_beside(config: MovingShapesConfig, rng: np.random.Generator,
                       centre: np.ndarray, side: float,
                       size: float) -> np.ndarray | None:
    """x and y of a shape that stays out of the square; None if 20 draws find none."""
    for _ in range(20):
        place = rng.uniform((0, 0), (config.width, config.height))
        if np.abs(place - centre).max() > (side + size) / 2:
            return place
    return None


def draw_ground(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) float32: a grey with a tint and faint blotches of about 8 pixels."""
    cells = rng.normal(0, 6, (height // 8 + 1, width // 8 + 1))
    blotches = cv2.resize(cells.astype(np.float32), (width, height),
                          interpolation=cv2.INTER_CUBIC)
    tone = rng.uniform(100, 130) + rng.uniform(-8, 8, 3)
    return blotches[..., None] + tone.astype(np.float32)


def actor_track(config: MovingShapesConfig, scene: Scene,
                label: int) -> dict[str, np.ndarray]:
    """How the actor of a scene goes through its action if it moves as the class says.

    Args:
        config (MovingShapesConfig): Settings.
        scene (Scene): The scene.
        label (int): The class, an index into CLASS_NAMES.

    Returns:
        dict: x, y, size (diameter; pixels) and angle (degrees, clockwise), each (M,)
            float64 over the action's video frames.

    Raises:
        ValueError: If there is no such class.
    """
    if not 0 <= label < len(CLASS_NAMES):
        raise ValueError(f'label is {label}; allowed is 0 to {len(CLASS_NAMES) - 1}')
    moved, direction = _MOTIONS[label]
    track = {}
    for name, path in scene.paths.items():
        values = np.full(len(path), path[scene.phases[name]])
        if name == moved == 'angle':
            values += direction * (path - path[0])
        elif name == moved:
            values = path[::direction]
        shaking = scene.shaking[name]
        track[name] = values * shaking if name == 'size' else values + shaking
    return track


def render_clip(config: MovingShapesConfig, index: int, split: str,
                label: int | None = None) -> tuple[np.ndarray, int, dict[str, Any]]:
    """Draw a video.

    Args:
        config (MovingShapesConfig): Settings.
        index (int): Number of the clip in its split, from 0.
        split (str): 'train' or 'val'.
        label (int, optional): Class to show in this clip's scene instead of its own.

    Returns:
        tuple: Frames (T, H, W, 3) uint8 RGB; the label; and what is to be seen, see
            `clip_info`.

    Raises:
        ValueError: If there is no such split, index or label.
    """
    scene = draw_scene(config, index, split)
    label = label_of(index) if label is None else label
    track = actor_track(config, scene, label)
    size = (config.height, config.width)
    frames = np.repeat(scene.ground[None], config.num_frames, axis=0)
    for look, *place, visible in scene.distractors:
        stamp = draw_stamp(look, *place, size)
        for number in np.flatnonzero(visible):
            stamp.blend(frames[number])
    for number, place in enumerate(zip(*track.values(), strict=True)):
        draw_stamp(scene.look, *place, size).blend(frames[scene.start + number])
    pixels = np.clip(np.rint(frames), 0, 255).astype(np.uint8)
    return pixels, label, clip_info(config, scene, label)


def clip_info(config: MovingShapesConfig, scene: Scene, label: int) -> dict[str, Any]:
    """What a clip shows, where and when.

    Args:
        config (MovingShapesConfig): Settings.
        scene (Scene): The scene.
        label (int): The class shown.

    Returns:
        dict: `action` (first video frame of the action, first one after it);
            `visible` (T,) bool, whether the actor is in the frame; `boxes` (T, 4)
            float64, left, top, right and bottom of the square around the actor, NaN
            where it is not in the frame; `track`, see `actor_track`; `distractors`,
            a list of Distractor.
    """
    track = actor_track(config, scene, label)
    stop = scene.start + len(track['x'])
    visible = np.zeros(config.num_frames, bool)
    visible[scene.start:stop] = True
    boxes = np.full((config.num_frames, 4), np.nan)
    boxes[visible] = np.stack([track['x'], track['y']] * 2, axis=1)
    boxes[visible] += track['size'][:, None] / 2 * np.array([-1, -1, 1, 1])
    return dict(action=(scene.start, stop), visible=visible, boxes=boxes, track=track,
                distractors=scene.distractors)
