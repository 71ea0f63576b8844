# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Moving shapes: a generated video data set on which where one looks decides.

Eight classes that differ only in how one textured shape, the *actor*, moves: left,
right, up, down, turning clockwise or counter-clockwise, growing, shrinking.

When to look: the actor is in the picture only during the action, a run of 6 to 8 of
the 16 sampled frames that begins at random. A model that drops frames blindly loses
half of the evidence on average, and in some clips nearly all of it; what it keeps
instead are frames with distractors only (plain, dull shapes that stand still or
flicker), which look the same whatever the class.

Where to look: the actor stays inside a square at a random place. Distractors keep out
of that square while the action lasts, so they never cover the actor, and may stand in
it before and after.

What tells the class is the order of frames. `draw_scene` draws everything before the
class is known: ground, distractors, looks, times, places, and for x, y, size and angle
each a path of as many values as the action has frames, and a random phase, a point on
it. The class then says which of the four is moved, and which way: it runs through its
path once, from one end to the other; the others rest at their phase (the angle turns
on from there, as a full turn has no ends). So in a frame drawn at random from the
action, place, size and angle are distributed alike for all classes, also jointly: they
run through the same path evenly or rest at a uniform phase of it. Such a frame says
nothing as long as one does not know how far the action has gone. Several frames
without their order tell what moves, but not which way. Frames outside of the action
tell nothing.

The limit of that: who knows that a frame is the first of the action, or the last, can
tell from the actor's place or size, since a shape that moves right begins on the left
of its square, and one that grows begins small. The number of a frame can give that
away: the actor in one of a video's very first frames has only just appeared. A test
for what single frames tell has to draw them without their number.

Frames are (T, H, W, 3) uint8 RGB; places are pixels, x to the right and y down, with
the upper left corner of the picture at (0, 0); angles are degrees, clockwise.

For training: mirroring a video swaps the labels 0 and 1, and 4 and 5.
"""
from ..generated import SETTINGS_FILE
from .config import CLASS_NAMES, SPLITS, MovingShapesConfig
from .files import TRUTH_FILE, Written, encode_mp4, write_dataset
from .scene import (
    Distractor,
    Scene,
    actor_track,
    clip_info,
    draw_scene,
    label_of,
    render_clip,
)

__all__ = ['CLASS_NAMES', 'SETTINGS_FILE', 'SPLITS', 'TRUTH_FILE', 'Distractor',
           'MovingShapesConfig', 'Scene', 'Written', 'actor_track', 'clip_info',
           'draw_scene', 'encode_mp4', 'label_of', 'render_clip', 'write_dataset']
