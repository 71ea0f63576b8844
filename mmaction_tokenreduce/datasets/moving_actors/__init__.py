# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Moving actors: a generated action detection data set in AVA's format.

Two to four textured actors in front of a textured ground with dull, motionless shapes.
A video is a row of takes, each with a keyframe in its middle; from take to take the
actors change place and action. Labels of an actor, from 1 on, as in AVA: one motion
(still, moves left, right, up or down, shakes from side to side), and whether it
touches another actor, and whether it follows one (moves the same way behind it).

What the keyframe tells: where the actors are, and who touches whom. What it does not:
how they move. Looks, places and sizes are drawn before the motions are, and all actors
stand still from the keyframe to the next frame, so that a token of two frames (tubelet
2) which holds the keyframe shows no motion either. The one thing a keyframe gives away
is an axis: of two actors in line both move along that line more often than chance has
it, but not which way.

Where the rest stands: at the actors in the other frames, which are a fifth of the
picture. The ground does not change in a take and says nothing about labels, so that a
model that drops it loses nothing, while one that drops blindly loses the motions.

In a few takes the camera fails. Their keyframes are annotated as if nothing had
happened and stand in the list of excluded timestamps.

Frames are (T, H, W, 3) uint8 RGB; places are pixels, x to the right and y down, with
the upper left corner of the picture at (0, 0).

For training: mirroring a video swaps the labels 2 and 3.
"""
from ..generated import SETTINGS_FILE
from .config import CLASS_NAMES, MOTIONS, RELATIONS, SPLITS, MovingActorsConfig
from .files import FRAME_NAME, TRUTH_FILE, Written, write_dataset
from .scene import (
    DIRECTIONS,
    Actor,
    Take,
    Video,
    boxes,
    draw_video,
    follows,
    labels,
    offsets,
    render_take,
    touches,
)

__all__ = ['CLASS_NAMES', 'DIRECTIONS', 'FRAME_NAME', 'MOTIONS', 'RELATIONS',
           'SETTINGS_FILE', 'SPLITS', 'TRUTH_FILE', 'Actor', 'MovingActorsConfig',
           'Take', 'Video', 'Written', 'boxes', 'draw_video', 'follows', 'labels',
           'offsets', 'render_take', 'touches', 'write_dataset']
