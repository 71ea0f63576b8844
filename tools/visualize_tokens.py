# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What a model keeps of a video (STTS, Fig. 4), merges and attends to (STTM, Fig. 4):
python tools/visualize_tokens.py CONFIG CHECKPOINT VIDEO."""
import _checkout  # noqa: F401, I001

import argparse
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmaction_tokenreduce.convert import read_checkpoint
from mmaction_tokenreduce.datasets import BadVideoError
from mmaction_tokenreduce.datasets.video_dataset import missing_or_empty, video_fault
from mmaction_tokenreduce.engine.cli import EPILOG, load_config
from mmaction_tokenreduce.engine.hooks.check_load_hook import (WRAPPER_PREFIX,
                                                               compare_state, describe)
from mmaction_tokenreduce.engine.user_errors import ConfigError, report_mistakes
from mmaction_tokenreduce.layers import GridReducer, SelectionError, TokenMerging
from mmaction_tokenreduce.visualization import (AttentionRollout, HeatOverlay,
                                                KeptRegions, MergedTokens,
                                                MergeOverlay, MergeTrace, Overlay,
                                                SelectionRow, SelectionTrace,
                                                play_overlays, play_selection,
                                                plot_overlays, plot_selection,
                                                token_grid)
from mmaction.models.recognizers import Recognizer3D
from mmaction.registry import TRANSFORMS
from mmengine.config import Config, DictAction
from mmengine.device import get_device

from _model import build_model

UNTRAINED = 'none'
STILLS, MOVING = ('.png', '.pdf', '.svg'), '.gif'
FOLDER = Path('work_dirs/tokens')
NUM_TOKENS = 8


def parser() -> argparse.ArgumentParser:
    """The options of tools/visualize_tokens.py."""
    result = argparse.ArgumentParser(
        prog='visualize_tokens.py', epilog=EPILOG,
        description='Draw what a model keeps of a video: its token frames side by '
        'side, dropped ones dimmed, kept regions framed, with scores; and the same '
        'moving. Of a model that merges tokens: which patches went into the same '
        'token, one colour a token. What is drawn is the view that the model sees: '
        'frames and crop of the test pipeline of the config.')
    result.add_argument('config', help='config file of a model with reducers, or with '
                        '--rollout of any ReducedTimeSformer or ReducedViT')
    result.add_argument('checkpoint', help='checkpoint file, or none for untrained '
                        'weights, as random and uniform selection need no others')
    result.add_argument('video', help='video file')
    result.add_argument(
        '--out', metavar='FILE', help='picture to write: .png, .pdf or .svg (still) or '
        f'.gif (moving); else both, in {FOLDER}/CONFIG_VIDEO.png and .gif')
    result.add_argument('--tokens', type=int, metavar='N', help='merged tokens that '
                        'are coloured, those of the most patches; default '
                        f'{NUM_TOKENS}')
    result.add_argument('--rollout', action='store_true', help='draw attention rolled '
                        'out over all layers back to the patches, below the merged '
                        'tokens or, where none are merged, alone')
    result.add_argument('--view', type=int, default=0, metavar='N',
                        help='which view of the test pipeline, from 0: clips, and of '
                        'each its crops; default 0')
    result.add_argument('--classes', metavar='FILE', help='names of the classes, one a '
                        'line; else metainfo.classes of the test dataset, if any')
    result.add_argument('--device', help='cpu, cuda, cuda:1, ...; else what there is')
    result.add_argument('--seed', type=int, default=0, help='of random selection and '
                        'untrained weights; default 0')
    result.add_argument('--cfg-options', nargs='+', action=DictAction,
                        metavar='KEY=VALUE', help='changes to the config: a.b=1')
    return result


def out_files(args: argparse.Namespace) -> list[Path]:
    """The pictures to write.

    Raises:
        ConfigError: If ``--out`` has no suffix of a picture, or is a folder.
    """
    if args.out is None:
        view = f'_view{args.view}' if args.view else ''
        name = f'{Path(args.config).stem}_{Path(args.video).stem}{view}'
        return [FOLDER / f'{name}{suffix}' for suffix in (STILLS[0], MOVING)]
    path = Path(args.out)
    if path.is_dir():
        raise ConfigError(f'--out {path} is a directory: name a file')
    if path.suffix.lower() not in (*STILLS, MOVING):
        raise ConfigError(f'--out {path}: must end in {", ".join(STILLS)} or {MOVING}')
    return [path]


def find_device(name: str | None) -> torch.device:
    """The device that was asked for, or the one there is.

    Raises:
        ConfigError: If there is no such device.
    """
    try:
        return torch.zeros(1, device=name or get_device()).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition('\n')[0]
        raise ConfigError(f'--device {name} cannot be used: {reason}') from error


def test_dataset(config: Config) -> Mapping[str, Any]:
    """The dataset of the test dataloader, out of its wrappers; empty without one."""
    dataset = (config.get('test_dataloader') or {}).get('dataset') or {}
    while 'pipeline' not in dataset and 'dataset' in dataset:
        dataset = dataset['dataset']
    return dataset


def read_views(config: Config, path: str, video: str) -> tuple[torch.Tensor, Any]:
    """Run the test pipeline of a config on a video.

    Args:
        config: The config.
        path: Its file, for messages.
        video: The video file.

    Returns:
        Views (V, 3, F, H, W) uint8, and what belongs to them.

    Raises:
        ConfigError: If the config has no test pipeline that gives such views.
        BadVideoError: If the video cannot be read.
    """
    steps = test_dataset(config).get('pipeline') or config.get('test_pipeline')
    if not steps:
        raise ConfigError(f'config file {path} has no test pipeline, neither in '
                          'test_dataloader.dataset.pipeline nor in test_pipeline')
    reason = missing_or_empty(video)
    if reason is not None:
        raise BadVideoError(f'video {video} cannot be read: {reason}')
    scope = config.get('default_scope') or 'mmaction'
    steps = [TRANSFORMS.build({'_scope_': scope, **step}) for step in steps]
    results = dict(filename=video, start_index=0, modality='RGB', label=-1)
    try:
        for step in steps:
            results = step(results)
    except Exception as error:
        reason = video_fault(video)
        if reason is not None:
            raise BadVideoError(f'video {video} cannot be read: {reason}') from error
        if isinstance(error, KeyError):
            raise ConfigError(
                f'config file {path}: the test pipeline asks for {error} of a sample, '
                'which a video file does not give') from error
        raise
    views = results.get('inputs') if isinstance(results, dict) else None
    if not (isinstance(views, torch.Tensor) and views.dtype == torch.uint8
            and views.ndim == 5 and views.shape[1] == 3):
        raise ConfigError(
            f'config file {path}: the test pipeline must decode a video, end in '
            "FormatShape(input_format='NCTHW') and PackActionInputs, and leave "
            'normalising to the data_preprocessor')
    return views, results['data_samples']


def load_model(config: Config, args: argparse.Namespace,
               device: torch.device) -> Recognizer3D:
    """The model of a config with the weights of a checkpoint, for evaluation.

    Raises:
        ConfigError: If it is no 3D recogniser, or the checkpoint does not fit.
        FileNotFoundError: If the checkpoint does not exist.
        ValueError: If the file is no checkpoint, or would need an unsafe pickle.
    """
    model = build_model(config)
    if not isinstance(model, Recognizer3D):
        raise ConfigError(f'config file {args.config}: model.type={config.model.type}: '
                          'only Recognizer3D and its subclasses can be drawn')
    make_traces(model, args)  # before anything is read: they need reducers
    if args.checkpoint != UNTRAINED:
        state = {key.removeprefix(WRAPPER_PREFIX): value
                 for key, value in read_checkpoint(args.checkpoint).items()}
        mismatch = compare_state(model, state)
        if any(mismatch):
            raise ConfigError(
                f'checkpoint {args.checkpoint} does not fit the model of '
                f'{args.config}: {describe(mismatch)}; a released checkpoint is '
                'converted first, with tools/convert_checkpoint.py')
        model.load_state_dict(state, strict=False)  # compared above
    model.to(device).eval()
    return model


def class_names(config: Config, path: str | None, count: int) -> Sequence[str] | None:
    """Names of the classes, from a file or the config; None where there are none.

    Raises:
        ConfigError: If the file is no text, or there are not ``count`` of them.
        FileNotFoundError: If there is no such file.
    """
    if path is None:
        names = (test_dataset(config).get('metainfo') or {}).get('classes')
        where = 'metainfo.classes of the test dataset'
    else:
        try:
            text = Path(path).read_text(encoding='utf-8')
        except UnicodeDecodeError as error:
            raise ConfigError(f'--classes {path}: not a text file') from error
        names, where = [line.strip() for line in text.strip().splitlines()], path
    if names and len(names) != count:
        raise ConfigError(f'{where} has {len(names)} names, the model {count} classes')
    return names or None


def make_traces(model: Recognizer3D,
                args: argparse.Namespace) -> list[SelectionTrace | MergeTrace
                                                  | AttentionRollout]:
    """What watches a model: its merges and its attention, or else its selectors.

    Raises:
        ConfigError: If it has no reducers and ``--rollout`` is not given, or
            ``--tokens`` does not fit.
        ValueError: If its attention cannot be rolled out.
    """
    merges = any(isinstance(m, TokenMerging) and m.ratio for m in model.modules())
    if args.tokens is not None:
        if not merges:
            raise ConfigError(f'--tokens {args.tokens}: config file {args.config} has '
                              'no merges whose tokens could be coloured')
        if args.tokens < 1:
            raise ConfigError(f'--tokens {args.tokens}: must be at least 1')
    if not (merges or args.rollout
            or any(isinstance(m, GridReducer) for m in model.modules())):
        raise ConfigError(f'config file {args.config}: the model has no reducers to '
                          'watch; --rollout draws the attention of any '
                          'ReducedTimeSformer or ReducedViT')
    if not (merges or args.rollout):
        return [SelectionTrace(model)]
    return ([MergeTrace(model)] if merges else []) + (
        [AttentionRollout(model)] if args.rollout else [])


def watch(model: Recognizer3D, view: torch.Tensor, sample: Any,
          args: argparse.Namespace) -> tuple[KeptRegions | list[Overlay], torch.Tensor]:
    """Run a model on one view (3, F, H, W): what to draw, and its scores.

    Raises:
        ConfigError: If the model cannot take it.
    """
    batch = model.data_preprocessor(dict(inputs=[view.unsqueeze(0)],
                                         data_samples=[sample]), False)
    traces = make_traces(model, args)
    with torch.inference_mode(), ExitStack() as watching:
        for trace in traces:
            watching.enter_context(trace)
        try:
            result = model(**batch, mode='predict')[0]
        except SelectionError:
            raise
        except RuntimeError as error:
            size = 'x'.join(map(str, view.shape))
            raise ConfigError(f'the model cannot take one view of {size} (C x T x H x '
                              f'W): {error}') from error
    scores = result.pred_score.flatten().cpu()
    if isinstance(traces[0], SelectionTrace):
        return traces[0].kept(sample=0), scores
    thw = token_grid(model, batch['inputs'].shape[-3:])
    drawn = []
    for trace in traces:
        if isinstance(trace, MergeTrace):
            merged = trace.merged(0, thw)
            overlay = MergeOverlay(merged, args.tokens or NUM_TOKENS)
            title = f'{merged.summary()}, coloured: the {len(overlay.shown)} largest'
            drawn.append(replace(overlay, title=title))
        else:
            heat = trace.heat(0, thw).numpy()
            drawn.append(HeatOverlay(heat, 'attention rolled out to the patches'))
    return drawn, scores


def describe_kept(kept: KeptRegions) -> str:
    """What was kept, in words."""
    frames = ', '.join(f'#{t}' for t in kept.frames)
    lines = [f'kept: {kept.summary()}; token frames {frames}']
    for number, row in enumerate(kept.scores):
        which = f' by selector {number + 1} of frames' if len(kept.scores) > 1 else ''
        shown = ', '.join('-' if np.isnan(score) else f'{score:.2f}' for score in row)
        lines.append(f'scores of the token frames{which}: {shown}')
    return '\n'.join(lines)


def describe_overlays(overlays: Sequence[Overlay]) -> str:
    """What was merged and attended to, in words."""
    lines = []
    for overlay in overlays:
        if isinstance(overlay, MergeOverlay):
            lines.append(f'merged: {overlay.merged.summary()}')
            lines += [f'token {token}: {describe_token(overlay.merged, token)}'
                      for token in overlay.shown]
        else:
            shares = overlay.heat.sum((1, 2))
            shown = ', '.join(f'{share:.3f}' for share in shares)
            lines.append(f'attention rolled out, shares of the token frames: {shown}')
    return '\n'.join(lines)


def describe_token(merged: MergedTokens, token: int) -> str:
    """How many patches a merged token holds, and where it stems from."""
    frame, row, column = merged.meta[token]
    frames = int((merged.tokens == token).any((1, 2)).sum())
    return (f'{merged.counts[token]} patches of {frames} '
            f'frame{"s" * (frames > 1)}, {merged.shares[token]:.0%} of its weight; '
            f'meta token at frame #{frame}, row {row}, column {column}')


def draw(args: argparse.Namespace, paths: Sequence[Path], images: np.ndarray,
         what: KeptRegions | Sequence[Overlay], prediction: str) -> None:
    """Write the pictures of the sampled frames (F, H, W, 3).

    Token frame t of T stands for the sampled frames t * F / T to (t + 1) * F / T; the
    still picture shows the first of them, on which MViT centres it.
    """
    heading = f'{Path(args.video).name}, {Path(args.config).stem}'
    kept = isinstance(what, KeptRegions)
    frames = what.num_frames if kept else what[0].num_frames
    still = images[np.arange(frames) * len(images) // frames]
    title = f'{prediction}; keeps {what.summary()}' if kept else prediction
    for path in paths:
        moving = path.suffix.lower() == MOVING
        if kept and moving:
            play_selection(images, what, path, f'{heading}: {title}')
        elif kept:
            plot_selection([SelectionRow(still, what, title)], path, heading)
        elif moving:
            play_overlays(images, what, path, f'{heading}: {title}')
        else:
            plot_overlays(still, what, path, f'{heading}: {title}')
        print(f'wrote {path}')


def visualize(args: argparse.Namespace) -> None:
    """Draw what a model does with the tokens of a video, and say it.

    Raises:
        ConfigError: If config, checkpoint and options do not go together.
        FileNotFoundError: If a file does not exist.
        BadVideoError: If the video cannot be read.
    """
    paths = out_files(args)
    device = find_device(args.device)
    config = load_config(args.config, args.cfg_options, ('model', ))
    torch.manual_seed(args.seed)
    model = load_model(config, args, device)
    views, sample = read_views(config, args.config, args.video)
    if not 0 <= args.view < len(views):
        raise ConfigError(f'--view {args.view}: the test pipeline of {args.config} '
                          f'gives {len(views)} views, 0 to {len(views) - 1}')
    view = views[args.view]
    torch.manual_seed(args.seed)
    what, scores = watch(model, view, sample, args)
    names = class_names(config, args.classes, len(scores))
    prediction = 'Untrained weights'
    if args.checkpoint != UNTRAINED:
        best = int(scores.argmax())
        name = f' ({names[best]})' if names else ''
        prediction = f'Predicted class {best}{name}, score {scores[best]:.2f}'
    told = describe_kept if isinstance(what, KeptRegions) else describe_overlays
    print(f'{prediction}\n{told(what)}')
    images = view.permute(1, 2, 3, 0).numpy()
    if getattr(model.data_preprocessor, 'to_rgb', False):
        images = images[..., ::-1]
    draw(args, paths, images, what, prediction)


def main(argv: Sequence[str] | None = None) -> None:
    """Run tools/visualize_tokens.py.

    Args:
        argv: Options; the command line's unless given.

    Raises:
        SystemExit: With status 2, for a user's mistake.
    """
    args = parser().parse_args(argv)
    with report_mistakes():
        visualize(args)


if __name__ == '__main__':
    main()
