# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What a model keeps of a video (STTS, Fig. 4; EVAD, Fig. 4), merges and attends to
(STTM, Fig. 4), samples (DVT, Fig. 2), is told of motion (DVT, Fig. 3) and detects:
python tools/visualize_tokens.py CONFIG CHECKPOINT VIDEO."""
import _checkout  # noqa: F401, I001

import argparse
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from mmaction_tokenreduce.datasets.ava_annotations import read_label_map
from mmaction_tokenreduce.engine.cli import EPILOG, load_config
from mmaction_tokenreduce.engine.user_errors import ConfigError, report_mistakes
from mmaction_tokenreduce.models.detectors import EVAD
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from torch import Tensor

from _clips import (Clip, Recognizer, detects, load_weights, predict,
                    predict_batch, read_clips, takes_motion, test_dataset)
from _detection_picture import SCORE_THR
from _keyframe_clip import KeyframeClip, read_keyframe_clip
from _model import build_model
from _picture import MOVING, STILLS, VIDEO, Picture
from _pictures import NUM_TOKENS, choose_pictures

UNTRAINED = 'none'
FOLDER = Path('work_dirs/tokens')


def parser() -> argparse.ArgumentParser:
    """The options of tools/visualize_tokens.py."""
    result = argparse.ArgumentParser(
        prog='visualize_tokens.py', epilog=EPILOG,
        description='Draw what a model keeps of a video: its token frames side by '
        'side, dropped ones dimmed, kept regions framed, with scores; and the same '
        'moving. Of a model that merges tokens: which patches went into the same '
        'token, one colour a token. Of deformable attention: the points that one query '
        'samples, or the motion that leads it. Of a model that prunes: what is left '
        'after each pruning, and of a detector the actors of a keyframe too. What is '
        'drawn is the view that the model sees: frames and crop of the test pipeline '
        'of the config.')
    result.add_argument('config', help='config file of a model with reducers or '
                        'deformable attention, or with --rollout of any '
                        'ReducedTimeSformer or ReducedViT')
    result.add_argument('checkpoint', help='checkpoint file, or none for untrained '
                        'weights, as random and uniform selection need no others')
    result.add_argument('video', help='video file, or of detectors a folder of '
                        'numbered frames, img_00001.jpg and so on')
    result.add_argument(
        '--out', metavar='FILE', help='picture to write: .png, .pdf or .svg (still) or '
        f'.gif (moving, not of sampled points); else both, {FOLDER}/CONFIG_VIDEO.png '
        f'and .gif; of detectors {VIDEO} as well, and CONFIG_VIDEO_detections.png and '
        f'{VIDEO}')
    result.add_argument('--tokens', type=int, metavar='N', help='merged tokens that '
                        'are coloured, those of the most patches; default '
                        f'{NUM_TOKENS}')
    result.add_argument('--rollout', action='store_true', help='draw attention rolled '
                        'out over all layers back to the patches, below the merged '
                        'tokens or, where none are merged, alone')
    result.add_argument('--query', nargs=3, type=int,
                        metavar=('FRAME', 'ROW', 'COLUMN'), help='query whose sampled '
                        'points are drawn: its token frame, and a place in pixels of '
                        'the view; default: where most moves in the middle of the clip')
    result.add_argument('--block', nargs='+', type=int, metavar='N',
                        help='blocks whose sampled points are drawn, from 0; default: '
                        'the first, the middle and the last')
    result.add_argument('--head', type=int, metavar='N',
                        help='the attention head whose sampled points are drawn, from '
                        '0; default: all')
    result.add_argument('--motion', action='store_true', help='draw the displacement '
                        'fields that the model is given, and what they do not predict '
                        'of the frames, in CONFIG_VIDEO_motion.png and .gif')
    result.add_argument('--time', type=float, metavar='SECONDS',
                        help='of detectors: the keyframe, from the first frame on; '
                        'default: the middle of the video')
    result.add_argument('--detections', action='store_true', help='of detectors: draw '
                        'actors and actions alone, no tokens')
    result.add_argument('--score-thr', type=float, metavar='P', help='of detectors: '
                        'actions of at least this score are named; default '
                        f'{SCORE_THR}')
    result.add_argument('--person-thr', type=float, metavar='P', help='of detectors: '
                        'boxes that are a person with at least this probability are '
                        "drawn; default: the model's person_thr")
    result.add_argument('--view', type=int, default=0, metavar='N',
                        help='which view of the test pipeline, from 0: clips, and of '
                        'each its crops; default 0')
    result.add_argument('--classes', metavar='FILE', help='names of the classes, one a '
                        'line, for detectors from label 1 or a label map (.pbtxt); '
                        'else metainfo.classes or label_file of the test dataset, if '
                        'any')
    result.add_argument('--device', help='cpu, cuda, cuda:1, ...; else what there is')
    result.add_argument('--seed', type=int, default=0, help='of random selection and '
                        'untrained weights; default 0')
    result.add_argument('--cfg-options', nargs='+', action=DictAction,
                        metavar='KEY=VALUE', help='changes to the config: a.b=1')
    return result


def out_files(args: argparse.Namespace, picture: Picture) -> list[Path]:
    """The files to write a picture to.

    Raises:
        ConfigError: If ``--out`` has no suffix of this picture, or is a folder.
    """
    if args.out is None:
        view = f'_view{args.view}' if args.view else ''
        if args.time is not None:
            view = f'_{args.time:g}s'
        name = f'{Path(args.config).stem}_{Path(args.video).stem}{view}{picture.tag}'
        return [FOLDER / f'{name}{suffix}' for suffix in (STILLS[0], MOVING, VIDEO)
                if suffix in picture.suffixes]
    path = Path(args.out)
    if path.is_dir():
        raise ConfigError(f'--out {path} is a directory: name a file')
    if path.suffix.lower() not in picture.suffixes:
        *most, last = picture.suffixes
        raise ConfigError(f'--out {path}: must end in {", ".join(most)} or {last}')
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


def label_names(config: Config, path: str | None, count: int) -> dict[int, str]:
    """Names of a detector's actions, by label from 1; empty where there are none.

    Args:
        config: The config; its test dataset or metric may name a label map.
        path: A file of names, or a label map (.pbtxt).
        count: Actions of the model.

    Raises:
        ConfigError: If the names do not fit.
        ValueError: If a label map is faulty.
        FileNotFoundError: If there is no file of that path.
    """
    label_map = path if path and path.endswith('.pbtxt') else None
    if path is None:
        metrics = config.get('test_evaluator') or ()
        metrics = [metrics] if isinstance(metrics, Mapping) else metrics
        label_map = next((place['label_file'] for place in (test_dataset(config),
                                                            *metrics)
                          if place.get('label_file')
                          and Path(place['label_file']).is_file()), None)
    if label_map is None:
        return dict(enumerate(class_names(config, path, count) or (), 1))
    if not Path(label_map).is_file():
        raise FileNotFoundError(f'label map {label_map} not found')
    names = read_label_map(label_map)
    if max(names) > count:
        raise ConfigError(f'label map {label_map} has label {max(names)}, the model '
                          f'{count} actions')
    return names


def describe_prediction(config: Config, args: argparse.Namespace,
                        scores: Tensor | Mapping[str, Tensor]) -> str:
    """'Predicted class 3 (dancing), score 0.80', or one of each task's classes.

    Raises:
        ConfigError: If names of the classes do not fit.
        FileNotFoundError: If there is no file of them.
    """
    names = None
    if isinstance(scores, Mapping):
        if args.classes is not None:
            raise ConfigError(f'--classes {args.classes}: the model has several tasks, '
                              f'{", ".join(scores)}, whose classes go by number')
    else:
        names = class_names(config, args.classes, len(scores))
        scores = {'class': scores}
    if args.checkpoint == UNTRAINED:
        return 'Untrained weights'
    guesses = []
    for task, row in scores.items():
        best = int(row.argmax())
        name = f' ({names[best]})' if names else ''
        guesses.append(f'{task} {best}{name}, score {row[best]:.2f}')
    return f'Predicted {"; ".join(guesses)}'


def run_recognizer(model: Recognizer, config: Config,
                   args: argparse.Namespace) -> tuple[Clip, np.ndarray, str]:
    """Run a recogniser on a view of a video.

    Returns:
        The view, its frames (F, H, W, 3) in RGB, and the prediction in words.

    Raises:
        ConfigError: If config and options do not go together.
        BadVideoError: If the video cannot be read.
    """
    clips = read_clips(config, args.config, args.video, takes_motion(model))
    if not 0 <= args.view < len(clips):
        raise ConfigError(f'--view {args.view}: the test pipeline of {args.config} '
                          f'gives {len(clips)} views, 0 to {len(clips) - 1}')
    clip = clips[args.view]
    torch.manual_seed(args.seed)
    scores = predict(model, clip)
    images = clip.imgs.permute(1, 2, 3, 0).numpy()
    if getattr(model.data_preprocessor, 'to_rgb', False):
        images = images[..., ::-1]
    return clip, images, describe_prediction(config, args, scores)


def run_detector(model: EVAD, config: Config,
                 args: argparse.Namespace) -> tuple[KeyframeClip, np.ndarray, str]:
    """Run a detector on the clip around a keyframe of a video.

    Returns:
        The clip, its frames (F, H, W, 3) in RGB with their padding, and where it is.

    Raises:
        ConfigError: If config and options do not go together.
        BadVideoError: If the video cannot be read.
    """
    clip = read_keyframe_clip(config, args.config, args.video, args.time)
    torch.manual_seed(args.seed)
    size = 'x'.join(map(str, clip.packed['inputs'].shape))
    (sample, ) = predict_batch(model, clip.batch(),
                               f'one clip of {size} (C x T x H x W)')
    clip.found = sample.pred_instances
    where = f'keyframe at {clip.window.anchor / clip.fps:.2f} s'
    if args.checkpoint == UNTRAINED:
        where += ', untrained weights'
    return clip, clip.pad(model), where


def visualize(args: argparse.Namespace) -> None:
    """Draw what a model does with the tokens of a video, and say it.

    Raises:
        ConfigError: If config, checkpoint and options do not go together.
        FileNotFoundError: If a file does not exist.
        BadVideoError: If the video cannot be read.
    """
    device = find_device(args.device)
    config = load_config(args.config, args.cfg_options, ('model', ))
    torch.manual_seed(args.seed)
    model = build_model(config)
    detector = detects(model, config, args.config)
    names = (label_names(config, args.classes, model.action_head.num_classes)
             if detector else {})
    pictures = choose_pictures(model, args, names)  # before anything is read
    paths = {picture: out_files(args, picture) for picture in pictures}
    if args.checkpoint != UNTRAINED:
        load_weights(model, args.checkpoint, args.config)
    model.to(device).eval()
    with torch.inference_mode(), ExitStack() as watching:
        for picture in pictures:
            for trace in picture.traces:
                watching.enter_context(trace)
        run = run_detector if detector else run_recognizer
        clip, images, prediction = run(model, config, args)
    print(prediction)
    heading = f'{Path(args.video).name}, {Path(args.config).stem}'
    for picture in pictures:
        picture.look(clip, images)
        print(picture.words())
        for path in paths[picture]:
            picture.draw(path, heading, prediction)
            print(f'wrote {path}')


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
