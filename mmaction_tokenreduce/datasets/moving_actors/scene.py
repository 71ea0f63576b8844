# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""From settings and a video's number to its frames, boxes and labels.

Shapes: L frames of a take (clip_len), A actors of a take.
"""
from typing import NamedTuple

import numpy as np

from ..moving_shapes.drawing import OUTLINES, Look, draw_stamp
from ..moving_shapes.scene import draw_actor_look, draw_ground
from .config import CLASS_NAMES, MOTIONS, SPLITS, TOUCHING, MovingActorsConfig

# By motion: the direction, right and down.
DIRECTIONS = {'move left': (-1, 0), 'move right': (1, 0), 'move up': (0, -1),
              'move down': (0, 1)}
# How the first two actors stand to each other, at equal odds.
_ARRANGEMENTS = ('apart', 'touch', 'lane', 'lane')
_SHAKE = 0.75  # steps to either side
_FURNITURE = 4  # the most dull shapes that belong to the ground
_TRIES = 50  # to place all actors, before one is left out


class Actor(NamedTuple):
    """An actor in a take: who (from 0), centre at the keyframe and diameter in pixels,
    angle in degrees, motion, and the side to which it shakes first (-1 or 1).
    """

    entity: int
    x: float
    y: float
    size: float
    angle: float
    motion: str
    side: int


class Take(NamedTuple):
    """What one keyframe shows; `glitch`: the camera fails."""

    actors: list[Actor]
    glitch: bool


class Video(NamedTuple):
    """A video: ground (H, W, 3) float32 RGB, look of each actor, takes."""

    ground: np.ndarray
    looks: list[Look]
    takes: list[Take]


def draw_video(config: MovingActorsConfig, index: int, split: str) -> Video:
    """Draw everything that a video shows.

    Args:
        config (MovingActorsConfig): Settings.
        index (int): Number of the video in its split, from 0.
        split (str): 'train' or 'val'.

    Returns:
        Video: The same for the same arguments, whatever was drawn before.

    Raises:
        ValueError: If the split is unknown or the index negative.
    """
    if split not in SPLITS or index < 0:
        raise ValueError(f'no video {index} in split {split!r}: splits are '
                         f'{", ".join(SPLITS)}, videos are counted from 0')
    rng = np.random.default_rng((config.seed, SPLITS.index(split), index))
    ground = _draw_scenery(config, rng)
    count = int(rng.integers(config.min_actors, config.max_actors + 1))
    looks = [draw_actor_look(rng) for _ in range(count)]
    return Video(ground, looks, [_draw_take(config, rng, count)
                                 for _ in range(config.keyframes)])


def _draw_scenery(config: MovingActorsConfig, rng: np.random.Generator) -> np.ndarray:
    """A ground with dull shapes, as large as actors, that say nothing."""
    size = (config.height, config.width)
    ground = draw_ground(*size, rng)
    for _ in range(rng.integers(_FURNITURE + 1)):
        # darker or lighter than the ground, but less red than any actor
        grey = rng.uniform(*((45, 70), (155, 175))[rng.integers(2)])
        colour = (grey + rng.uniform(-12, 12, 3)).astype(np.float32)
        look = Look(OUTLINES[rng.integers(len(OUTLINES))], np.stack([colour, colour]))
        diameter = rng.uniform(config.min_size, config.max_size) * config.short_side
        draw_stamp(look, *rng.uniform((0, 0), size[::-1]), diameter,
                   rng.uniform(0, 360), size).blend(ground)
    return ground


def _draw_take(config: MovingActorsConfig, rng: np.random.Generator,
               count: int) -> Take:
    sizes = rng.uniform(config.min_size, config.max_size, count) * config.short_side
    places, axis = _draw_places(config, rng, sizes)
    motions = [MOTIONS[number] for number in rng.integers(len(MOTIONS), size=count)]
    if axis is not None and rng.integers(2):  # one follows the other, either of them
        ways = [name for name, way in DIRECTIONS.items() if way[axis]]
        motions[:2] = [ways[rng.integers(2)]] * 2
    actors = [Actor(number, *place, size, rng.uniform(0, 360), motion,
                    int(rng.choice((-1, 1))))
              for number, (place, size, motion)
              in enumerate(zip(places, sizes, motions, strict=False))]
    return Take(actors, bool(rng.random() < config.glitches))


def _draw_places(config: MovingActorsConfig, rng: np.random.Generator,
                 sizes: np.ndarray) -> tuple[list[np.ndarray], int | None]:
    """Centres at the keyframe, and the axis along which the first two are in a lane.

    The first two are apart, touch, or are in a lane (axis 0 for x, 1 for y), whatever
    they do then; the others keep off everybody.
    """
    count = len(sizes)
    while True:
        for _ in range(_TRIES):
            relation = _ARRANGEMENTS[rng.integers(len(_ARRANGEMENTS))]
            axis = int(rng.integers(2))
            places = [_draw_place(config, rng, size) for size in sizes[:count]]
            radii = sizes[:2].sum() / 2
            if relation == 'touch':
                angle = rng.uniform(0, 2 * np.pi)
                places[1] = places[0] + TOUCHING * radii * np.array(
                    [np.cos(angle), np.sin(angle)])
            elif relation == 'lane':
                way = np.zeros(2)
                way[axis] = rng.choice((-1, 1)) * (radii + config.short_side * (
                    rng.uniform(config.gap, config.lane_gap)))
                way[1 - axis] = config.short_side * config.lane_width * (
                    rng.uniform(-0.7, 0.7))
                places[1] = places[0] + way
            if _fits(config, places, sizes, relation):
                return places, axis if relation == 'lane' else None
        count = max(2, count - 1)


def _draw_place(config: MovingActorsConfig, rng: np.random.Generator,
                size: float) -> np.ndarray:
    """A centre (2,), x and y, with the whole actor in the picture."""
    return rng.uniform(size / 2, (config.width - size / 2, config.height - size / 2))


def _fits(config: MovingActorsConfig, places: list[np.ndarray], sizes: np.ndarray,
          relation: str) -> bool:
    """Whether all are in the picture, and only those touch that are meant to."""
    frame = np.array([config.width, config.height])
    for i, place in enumerate(places):
        if (place < sizes[i] / 2).any() or (place > frame - sizes[i] / 2).any():
            return False
        for j in range(i):
            free = np.hypot(*(place - places[j])) - (sizes[i] + sizes[j]) / 2
            meant = relation == 'touch' and (j, i) == (0, 1)
            if not meant and free < config.gap * config.short_side:
                return False
    return True


def offsets(config: MovingActorsConfig, actor: Actor) -> np.ndarray:
    """Where an actor is in the frames of its take, from its place at the keyframe.

    All stand still from the keyframe, frame L / 2, to the next frame, so that these
    two do not show who moves how.

    Args:
        config (MovingActorsConfig): Settings.
        actor (Actor): The actor.

    Returns:
        np.ndarray: (L, 2), x and y in pixels.
    """
    frames = np.arange(config.clip_len)
    key = config.clip_len // 2
    if actor.motion == 'shake':
        pair = frames // 2
        turn = np.where(pair > key // 2, pair - 1, pair)  # pairs, the keyframe's apart
        steps = _SHAKE * actor.side * (-1.0) ** (frames + turn)
        steps[key:key + 2] = 0
        way = (1, 0)
    else:
        steps = np.where(frames <= key, frames - key, frames - key - 1)
        way = DIRECTIONS.get(actor.motion, (0, 0))
    return np.outer(steps, way) * config.step * config.short_side


def boxes(config: MovingActorsConfig, actor: Actor) -> np.ndarray:
    """(L, 4) left, top, right, bottom of the square around an actor, in pixels.

    In frames other than the keyframe it may reach beyond the picture.
    """
    centres = offsets(config, actor) + (actor.x, actor.y)
    return np.concatenate([centres - actor.size / 2, centres + actor.size / 2], axis=1)


def touches(one: Actor, other: Actor) -> bool:
    """Whether the circles around two actors meet at the keyframe."""
    distance = np.hypot(one.x - other.x, one.y - other.y)
    return bool(distance <= (one.size + other.size) / 2)


def follows(config: MovingActorsConfig, one: Actor, other: Actor) -> bool:
    """Whether one actor moves behind another: both go the same way, and the other is
    ahead, at most `lane_gap` away and at most `lane_width` off the path.
    """
    if one.motion != other.motion or one.motion not in DIRECTIONS:
        return False
    way = np.array(DIRECTIONS[one.motion])
    apart = np.array([other.x - one.x, other.y - one.y])
    ahead, beside = apart @ way, abs(apart @ way[::-1])
    free = ahead - (one.size + other.size) / 2
    return bool(ahead > 0 and free <= config.lane_gap * config.short_side
                and beside <= config.lane_width * config.short_side)


def labels(config: MovingActorsConfig, take: Take) -> list[list[int]]:
    """Labels of each actor of a take: its motion and its relations, from 1."""
    result = []
    for actor in take.actors:
        others = [other for other in take.actors if other is not actor]
        names = [actor.motion]
        if any(touches(actor, other) for other in others):
            names.append('touch another')
        if any(follows(config, actor, other) for other in others):
            names.append('follow another')
        result.append([CLASS_NAMES.index(name) + 1 for name in names])
    return result


def render_take(config: MovingActorsConfig, video: Video, number: int) -> np.ndarray:
    """Draw the frames of a take.

    Args:
        config (MovingActorsConfig): Settings.
        video (Video): The video.
        number (int): Number of the take, from 0.

    Returns:
        np.ndarray: (L, H, W, 3) uint8 RGB.
    """
    take, size = video.takes[number], (config.height, config.width)
    frames = np.repeat(video.ground[None], config.clip_len, axis=0)
    if take.glitch:  # noise, the same whenever it is drawn
        noise = np.random.default_rng((config.seed, number))
        frames = noise.normal(60, 25, frames.shape)
    else:
        for actor in take.actors:
            for frame, offset in zip(frames, offsets(config, actor), strict=True):
                draw_stamp(video.looks[actor.entity], actor.x + offset[0],
                           actor.y + offset[1], actor.size, actor.angle,
                           size).blend(frame)
    return np.clip(np.rint(frames), 0, 255).astype(np.uint8)
