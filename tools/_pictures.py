# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""The kinds of pictures that tools/visualize_tokens.py draws of one run of a model."""
import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from _clips import Clip, Recognizer, takes_motion
from _detection_picture import DetectionPicture
from _keyframe_clip import KeyframeClip
from _picture import MOVING, STILLS, VIDEO, Picture
from torch import nn

from mmaction_tokenreduce.engine.user_errors import ConfigError
from mmaction_tokenreduce.layers import GridReducer, KeyframePruning, TokenMerging
from mmaction_tokenreduce.layers.deformable_attention import DeformableAttention
from mmaction_tokenreduce.models.detectors import EVAD
from mmaction_tokenreduce.visualization import (
    AttentionRollout,
    FieldOverlay,
    HeatOverlay,
    MergedTokens,
    MergeOverlay,
    MergeTrace,
    Overlay,
    PointRow,
    PointTrace,
    PrunedGrid,
    PruningTrace,
    SampledPoints,
    SelectionRow,
    SelectionTrace,
    motion_overlays,
    moving_place,
    play_overlays,
    play_selection,
    plot_overlays,
    plot_points,
    plot_selection,
    pruning_overlays,
    token_fields,
    token_grid,
)
from mmaction_tokenreduce.visualization.point_trace import MAPS, MULTI_SCALE

NUM_TOKENS = 8
FOR_DETECTORS = 'time', 'score_thr', 'person_thr'


def choose_pictures(model: nn.Module, args: argparse.Namespace,
                    names: Mapping[int, str]) -> list[Picture]:
    """What is drawn of a model: of a recogniser one picture, of a detector two, of its
    tokens and of what it finds, or the one that ``--detections`` or ``--out`` names.

    Args:
        model: The model.
        args: The options.
        names: Of a detector's actions, by label.

    Raises:
        ConfigError: If it has nothing to draw, or options do not fit.
        ValueError: If its attention cannot be rolled out.
    """
    if not isinstance(model, EVAD):
        for name in FOR_DETECTORS:
            if getattr(args, name) is not None:
                raise ConfigError(f'--{name.replace("_", "-")} is for detectors; the '
                                  f'model of {args.config} is a recogniser')
        if args.detections:
            raise ConfigError(f'--detections: the model of {args.config} is a '
                              'recogniser, and finds no actors')
        return [choose_picture(model, args)]
    if args.view:
        raise ConfigError(f'--view {args.view} is for recognisers; --time says which '
                          'keyframe of the video is drawn')
    pictures: list[Picture] = [DetectionPicture(model, args, names)]
    prunes = any(isinstance(m, KeyframePruning) for m in model.modules())
    video = args.out is not None and Path(args.out).suffix.lower() == VIDEO
    if not args.detections and not video:
        if prunes or args.rollout or args.out is not None:
            pictures.insert(0, choose_picture(model, args))
        if args.out is not None:
            pictures = pictures[:1]
    return pictures


def choose_picture(model: nn.Module, args: argparse.Namespace) -> Picture:
    """What is drawn of a model's tokens: of its merges and attention, or what it has.

    Raises:
        ConfigError: If it has nothing to draw, or options do not fit.
        ValueError: If its attention cannot be rolled out.
    """
    modules = list(model.modules())
    merges = any(isinstance(m, TokenMerging) and m.ratio for m in modules)
    samples = any(isinstance(m, DeformableAttention) for m in modules)
    _check_options(args, merges, samples, takes_motion(model))
    if args.motion:
        return MotionPicture(model)
    prunes = any(isinstance(m, KeyframePruning) for m in modules)
    if merges or args.rollout or prunes:
        return OverlayPicture(model, merges, prunes, args)
    if samples:
        return PointPicture(model, args)
    if any(isinstance(m, GridReducer) for m in modules):
        return SelectionPicture(model)
    raise ConfigError(f'config file {args.config}: the model has no reducers to watch; '
                      '--rollout draws the attention of any ReducedTimeSformer or '
                      'ReducedViT')


def _check_options(args: argparse.Namespace, merges: bool, samples: bool,
                   motion: bool) -> None:
    if args.tokens is not None:
        if not merges:
            raise ConfigError(f'--tokens {args.tokens}: config file {args.config} has '
                              'no merges whose tokens could be coloured')
        if args.tokens < 1:
            raise ConfigError(f'--tokens {args.tokens}: must be at least 1')
    if args.motion and not motion:
        raise ConfigError(f'--motion: the model of config file {args.config} takes no '
                          'motion; it would be an MMRecognizer3D')
    if args.motion and args.rollout:
        raise ConfigError('--motion and --rollout are two pictures: give one of them')
    for name in ('query', 'block', 'head'):
        if getattr(args, name) is None:
            continue
        if not samples:
            raise ConfigError(f'--{name}: config file {args.config} has no deformable '
                              'attention whose points could be drawn')
        if args.motion or args.rollout:
            raise ConfigError(f'--{name} is for the picture of sampled points, without '
                              f'--{"motion" if args.motion else "rollout"}')


def of_token_frames(images: np.ndarray, frames: int) -> np.ndarray:
    """The first sampled frame of each token frame, on which MViT centres it.

    Token frame t of T stands for the sampled frames t * F / T to (t + 1) * F / T.
    """
    return images[np.arange(frames) * len(images) // frames]


class SelectionPicture(Picture):
    """What selectors keep: token frames side by side, what is dropped dimmed."""

    def __init__(self, model: Recognizer) -> None:
        self.traces = [SelectionTrace(model)]

    def look(self, clip: Clip, images: np.ndarray) -> None:
        self.kept, self.images = self.traces[0].kept(sample=0), images

    def words(self) -> str:
        frames = ', '.join(f'#{t}' for t in self.kept.frames)
        lines = [f'kept: {self.kept.summary()}; token frames {frames}']
        for number, row in enumerate(self.kept.scores):
            which = (f' by selector {number + 1} of frames'
                     if len(self.kept.scores) > 1 else '')
            shown = ', '.join('-' if np.isnan(score) else f'{score:.2f}'
                              for score in row)
            lines.append(f'scores of the token frames{which}: {shown}')
        return '\n'.join(lines)

    def draw(self, path: Path, heading: str, prediction: str) -> None:
        title = f'{prediction}; keeps {self.kept.summary()}'
        if path.suffix.lower() == MOVING:
            play_selection(self.images, self.kept, path, f'{heading}: {title}')
            return
        still = of_token_frames(self.images, self.kept.num_frames)
        plot_selection([SelectionRow(still, self.kept, title)], path, heading)


class OverlayPicture(Picture):
    """Tokens that prunings keep, merged tokens, and rolled-out attention, over the
    frames."""

    def __init__(self, model: nn.Module, merges: bool, prunes: bool,
                 args: argparse.Namespace) -> None:
        self.model, self.num_tokens = model, args.tokens or NUM_TOKENS
        kinds = ((PruningTrace, prunes), (MergeTrace, merges),
                 (AttentionRollout, args.rollout))
        self.traces = [kind(model) for kind, wanted in kinds if wanted]

    def look(self, clip: Clip | KeyframeClip, images: np.ndarray) -> None:
        thw = token_grid(self.model, clip.size)
        self.images = images
        self.overlays: list[Overlay] = []
        self.pruned: list[PrunedGrid] = []
        for trace in self.traces:
            if isinstance(trace, PruningTrace):
                self.pruned = trace.pruned(0, thw)
                self.overlays += pruning_overlays(self.pruned)
            elif isinstance(trace, MergeTrace):
                overlay = MergeOverlay(trace.merged(0, thw), self.num_tokens)
                title = (f'{overlay.merged.summary()}, coloured: the '
                         f'{len(overlay.shown)} largest')
                self.overlays.append(replace(overlay, title=title))
            else:
                self.overlays.append(HeatOverlay(trace.heat(0, thw).numpy(),
                                                 'attention rolled out to the patches'))

    def words(self) -> str:
        lines = [f'kept {grid.summary()}; of the token frames '
                 + ', '.join(map(str, grid.counts)) for grid in self.pruned]
        if lines:
            lines.append(f'keyframe: token frame #{self.pruned[0].keyframe}')
        for overlay in self.overlays:
            if isinstance(overlay, MergeOverlay):
                lines.append(f'merged: {overlay.merged.summary()}')
                lines += [f'token {token}: {describe_token(overlay.merged, token)}'
                          for token in overlay.shown]
            elif isinstance(overlay, HeatOverlay):
                shares = overlay.heat.sum((1, 2))
                shown = ', '.join(f'{share:.3f}' for share in shares)
                lines.append(f'attention rolled out, shares of the token frames: '
                             f'{shown}')
        return '\n'.join(lines)

    def draw(self, path: Path, heading: str, prediction: str) -> None:
        title = ': '.join(filter(None, (heading, prediction)))
        if path.suffix.lower() == MOVING:
            play_overlays(self.images, self.overlays, path, title)
            return
        still = of_token_frames(self.images, self.overlays[0].num_frames)
        plot_overlays(still, self.overlays, path, title)


class MotionPicture(OverlayPicture):
    """What a model is told of motion: frames, displacement fields, residuals."""
    tag = '_motion'

    def __init__(self, model: Recognizer) -> None:
        self.model = model

    def look(self, clip: Clip, images: np.ndarray) -> None:
        self.images, self.flags = images, clip.flags
        still = of_token_frames(images, token_grid(self.model, clip.size)[0])
        self.overlays = motion_overlays(clip.imgs, clip.motion, still)

    def draw(self, path: Path, heading: str, prediction: str) -> None:
        super().draw(path, heading, '')  # no weights are in this picture

    def words(self) -> str:
        lines = [overlay.title for overlay in self.overlays[1:]]
        fields = next(overlay.fields for overlay in self.overlays
                      if isinstance(overlay, FieldOverlay))
        shown = ', '.join(f'{length:.1f}'
                          for length in np.hypot(*fields.swapaxes(0, 1)).mean((1, 2)))
        lines.append(f'mean px of each token frame: {shown}')
        met = ', '.join(name if value is True else f'{name} {_short(value)}'
                        for name, value in self.flags.items() if value)
        return '\n'.join([*lines, *([f'stream: {met}'] if met else [])])


class PointPicture(Picture):
    """Where one query samples, block by block."""
    suffixes = STILLS

    def __init__(self, model: Recognizer, args: argparse.Namespace) -> None:
        self.query, self.head_number = args.query, args.head
        blocks = args.block
        if blocks is None:
            count = PointTrace(model).num_blocks
            blocks = sorted({0, count // 2, count - 1})
        self.trace = PointTrace(model, list(dict.fromkeys(blocks)))
        self.model, self.traces = model, [self.trace]

    def look(self, clip: Clip, images: np.ndarray) -> None:
        self.images = of_token_frames(images, self.trace.num_frames)
        frame, place, self.why = self._place(clip)
        self.where = f'token frame #{frame}, row {place[0]}, column {place[1]}'
        self.rows = []
        for block in self.trace.blocks:
            parts = self.trace.points(block, 0, frame, place)
            count = len(parts[0].weight)
            heads = f'{count} head{"s" * (count > 1)}'
            if self.head_number is not None:
                parts = [part.head(self.head_number) for part in parts]
                heads = f'head {self.head_number} of {heads}'
            title = (f'Block #{block} of {self.trace.num_blocks}, {heads}: '
                     + '; '.join(map(_describe_part, parts)))
            self.rows.append(PointRow(title, parts))

    def _place(self, clip: Clip) -> tuple[int, tuple[int, int], str]:
        """Token frame, and row and column in pixels, of the query, and why."""
        frames, (_, *size) = self.trace.num_frames, clip.size
        if self.query is not None:
            for name, value, limit in zip(('FRAME', 'ROW', 'COLUMN'), self.query,
                                          (frames, *size), strict=True):
                if not 0 <= value < limit:
                    raise ConfigError(f'--query {" ".join(map(str, self.query))}: '
                                      f'{name} must be from 0 to {limit - 1}')
            return self.query[0], tuple(self.query[1:]), 'as asked for'
        # The middle of the sub-clip in the middle.
        frame = frames // 2 // self.trace.sub_clip * self.trace.sub_clip
        frame += self.trace.sub_clip // 2
        if clip.motion is not None:
            field = token_fields(clip.imgs, clip.motion, frames)[frame]
            place = moving_place(field, size)
            if place is not None:
                return frame, place, 'which moves most'
        return frame, (size[0] // 2, size[1] // 2), 'the centre'

    def words(self) -> str:
        lines = [f'query: {self.where} ({self.why})']
        for block, row in zip(self.trace.blocks, self.rows, strict=True):
            for part in row.parts:
                names = ([f'{name} map' for name in MAPS] if part.kind == MULTI_SCALE
                         else [f'#{frame}' for frame in part.frames])
                shown = ', '.join(f'{name} {share:.0%} at ({x:+.1f}, {y:+.1f})'
                                  for name, share, (x, y) in zip(
                                      names, part.shares, part.offsets, strict=True))
                lines.append(f'block {block}, {part.kind}, weight and mean offset '
                             f'(x, y) in px: {shown}')
        return '\n'.join(lines)

    def draw(self, path: Path, heading: str, prediction: str) -> None:
        plot_points(self.images, self.rows, path, f'{heading}: {prediction}; query in '
                    f'{self.where} ({self.why})')


def _short(value: object) -> str:
    return f'{value:.3g}' if isinstance(value, float) else str(value)


def _describe_part(part: SampledPoints) -> str:
    """'D-ST-A, 8 points a frame, cells of 16 px, weights 0.051 to 0.071'."""
    across = ' and '.join(dict.fromkeys(f'{cell[1]}' for cell in part.cells))
    what = 'map' if part.kind == MULTI_SCALE else 'frame'
    return (f'{part.kind}, {part.weight.shape[2]} points a {what}, cells of {across} '
            f'px, weights {part.weight.min():.3f} to {part.weight.max():.3f}')


def describe_token(merged: MergedTokens, token: int) -> str:
    """How many patches a merged token holds, and where it stems from."""
    frame, row, column = merged.meta[token]
    frames = int((merged.tokens == token).any((1, 2)).sum())
    return (f'{merged.counts[token]} patches of {frames} '
            f'frame{"s" * (frames > 1)}, {merged.shares[token]:.0%} of its weight; '
            f'meta token at frame #{frame}, row {row}, column {column}')
