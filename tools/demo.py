# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""A trained model on a video of any length, or on a camera:
python tools/demo.py CONFIG CHECKPOINT VIDEO.

Not to be mixed up with `make demo` (tools/run_demo.py), which trains small models on
generated data and compares them.
"""
import _checkout  # noqa: F401, I001

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from mmaction_tokenreduce.engine.cli import EPILOG, load_config
from mmaction_tokenreduce.engine.user_errors import ConfigError, report_mistakes
from mmaction_tokenreduce.visualization.video_file import VideoFile
from mmaction_tokenreduce.whole_file import whole_file
from mmengine.config import Config, DictAction
from torch import nn
from tqdm import tqdm

from _clips import detects, load_weights
from _detection_picture import SCORE_THR, TOP
from _model import build_model
from _video_answers import Answers, Detection, Recognition, recognition_names
from _video_source import Frame, Source, StopRequest, open_source
from _video_tokens import TokenDrawing, find_trace
from _video_windows import Window, WindowPipeline, WindowStream
from visualize_tokens import UNTRAINED, class_names, find_device, label_names

FOLDER = Path('work_dirs/demo_video')
FOR_DETECTORS = 'score_thr', 'person_thr'


def parser() -> argparse.ArgumentParser:
    """The options of tools/demo.py."""
    result = argparse.ArgumentParser(
        prog='demo.py', epilog=EPILOG,
        description='Run a model over a video of any length, or a camera, window by '
        'window, and write a video of what it says. A recogniser: the classes of each '
        'window below the frames, and over them what the model keeps or merges. A '
        'detector: actors and what they do. Windows are sampled, resized and cropped '
        'as the test pipeline of the config says. (`make demo` is another thing: it '
        'trains small models on generated data.)')
    result.add_argument('config', help='config file of a recogniser or of EVAD')
    result.add_argument('checkpoint', help='checkpoint file, or none for untrained '
                        'weights')
    result.add_argument('video', help='video file, or the number of a camera, 0 for '
                        'the first')
    result.add_argument('--out', metavar='FILE.mp4', help='video to write; default '
                        f'{FOLDER}/CONFIG_VIDEO.mp4')
    result.add_argument('--json', metavar='FILE', help='write the scores of all '
                        'classes of each window as well')
    result.add_argument('--seconds', type=float, metavar='N', help='stop after so many '
                        'seconds of the video; Ctrl-C stops as well, and what came '
                        'until then is written')
    result.add_argument('--stride', type=int, metavar='N', help='frames from one '
                        'window or keyframe to the next; default: a window, for '
                        'detectors an eighth of one')
    result.add_argument('--window', type=int, metavar='N', help='frames of a window, '
                        'for samplers that spread over the whole video (UniformSample);'
                        ' others say it themselves')
    result.add_argument('--batch', type=int, default=1, metavar='N',
                        help='windows that the model takes at once; default 1')
    result.add_argument('--top-k', type=int, default=TOP, metavar='N',
                        help=f'classes that are shown, the best ones; default {TOP}')
    result.add_argument('--score-thr', type=float, metavar='P', help='of detectors: '
                        'actions of at least this score are shown; default '
                        f'{SCORE_THR}')
    result.add_argument('--person-thr', type=float, metavar='P', help='of detectors: '
                        'boxes that are a person with at least this probability are '
                        "shown; default: the model's person_thr")
    result.add_argument('--tokens', action=argparse.BooleanOptionalAction,
                        help='draw what the model keeps or merges over the frames; '
                        'default: of recognisers with reducers')
    result.add_argument('--scale', type=int, metavar='N', help='enlarge the frames so '
                        'often; default 1, and for recognisers what makes them 320 px '
                        'wide')
    result.add_argument('--classes', metavar='FILE', help='names of the classes, one a '
                        'line from class 0, for detectors from label 1 or a label map '
                        '(.pbtxt); else what the test dataset has')
    result.add_argument('--device', help='cpu, cuda, cuda:1, ...; else what there is')
    result.add_argument('--seed', type=int, default=0, help='of random selection and '
                        'untrained weights; default 0')
    result.add_argument('--cfg-options', nargs='+', action=DictAction,
                        metavar='KEY=VALUE', help='changes to the config: a.b=1')
    return result


def check_options(args: argparse.Namespace) -> None:
    """Refuse options out of their range.

    Raises:
        ConfigError: If there are.
    """
    for name in ('stride', 'window', 'batch', 'top_k', 'scale'):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ConfigError(f'{flag(name)} {value}: must be at least 1')
    for name in FOR_DETECTORS:
        value = getattr(args, name)
        if value is not None and not 0 <= value <= 1:
            raise ConfigError(f'{flag(name)} {value}: must be from 0 to 1')
    if args.seconds is not None and not args.seconds > 0:
        raise ConfigError(f'--seconds {args.seconds}: must be above 0')
    if args.out is None:
        name = f'camera{args.video}' if args.video.isdecimal() else (
            Path(args.video).stem)
        args.out = str(FOLDER / f'{Path(args.config).stem}_{name}.mp4')
    if Path(args.out).suffix.lower() != '.mp4':
        raise ConfigError(f'--out {args.out}: must end in .mp4')
    files = [Path(path).resolve() for path in
             (args.video, args.out, args.json, args.config, args.checkpoint) if path]
    for option, path in (('--out', args.out), ('--json', args.json)):
        if path and Path(path).is_dir():
            raise ConfigError(f'{option} {path} is a directory: name a file')
        if path and files.count(Path(path).resolve()) > 1:
            raise ConfigError(f'{option} {path}: is another file of this command')


def flag(name: str) -> str:
    """How an option is written."""
    return f'--{name.replace("_", "-")}'


def check_kind(detector: bool, args: argparse.Namespace) -> None:
    """Refuse options of detectors where the model is none.

    Raises:
        ConfigError: If there are.
    """
    for name in () if detector else FOR_DETECTORS:
        if getattr(args, name) is not None:
            raise ConfigError(f'{flag(name)} is for detectors; the model of '
                              f'{args.config} is a recogniser')


def make_answers(model: nn.Module, config: Config, pipeline: WindowPipeline,
                 args: argparse.Namespace) -> Answers:
    """What asks the model.

    Raises:
        ConfigError: If options do not fit the model.
    """
    trace = find_trace(model)
    if args.tokens and trace is None:
        raise ConfigError(f'--tokens: the model of {args.config} has no reducers whose '
                          'tokens could be drawn')
    wanted = not pipeline.detects if args.tokens is None else args.tokens
    tokens = TokenDrawing(model, trace, pipeline) if wanted and trace else None
    common = (model, pipeline, tokens, args.top_k)
    if pipeline.detects:
        return Detection(
            *common, names=label_names(config, args.classes,
                                       model.action_head.num_classes),
            score_thr=SCORE_THR if args.score_thr is None else args.score_thr,
            person_thr=(model.person_thr if args.person_thr is None
                        else args.person_thr),
            scale=args.scale or 1)
    count = model.cls_head.num_classes
    names = (class_names(config, args.classes, count) if isinstance(count, int)
             else None)
    return Recognition(*common, names=recognition_names(count, names, args.classes),
                       scale=args.scale)


class ScoreFile(AbstractContextManager):
    """A JSON file that grows window by window, written whole or not at all.

    Args:
        path: The file; None to write nothing.
        head: What stands at its top.
    """

    def __init__(self, path: str | None, head: dict[str, Any]) -> None:
        self.path, self.head = path, head
        self._stack, self._file, self._count = ExitStack(), None, 0

    def __enter__(self) -> 'ScoreFile':
        if self.path is not None:
            part = self._stack.enter_context(whole_file(self.path))
            self._file: TextIO | None = self._stack.enter_context(
                part.open('w', encoding='utf-8'))
            self._file.write(json.dumps(self.head)[:-1] + ', "windows": [')
        return self

    def add(self, entry: dict[str, Any]) -> None:
        """Write what was said of the next window."""
        if self._file is not None:
            self._file.write((',\n' if self._count else '\n') + json.dumps(entry))
        self._count += 1

    def end(self, tail: dict[str, Any]) -> None:
        """Write what stands at the end."""
        if self._file is not None:
            self._file.write('\n], ' + json.dumps(tail)[1:] + '\n')

    def __exit__(self, *error: Any) -> bool | None:
        return self._stack.__exit__(*error)


class Player(AbstractContextManager):
    """Writes frames with their answers to a video file, begun with the first one.

    Frames of a camera, which come as fast as the model lets them, are repeated or left
    out so that the file plays in real time.

    Args:
        path: The file.
        source: Where frames come from.
        answers: Draws them.
    """

    def __init__(self, path: str, source: Source, answers: Answers) -> None:
        self.path, self.source, self.answers = path, source, answers
        self.written = 0
        self._stack, self._file = ExitStack(), None

    def show(self, frame: Frame, window: Window, answer: Any) -> None:
        """Write a frame."""
        due = 1
        if self.source.live:
            due = round(frame.seconds * self.source.fps) + 1 - self.written
        if due < 1:
            return
        image = self.answers.picture(frame, window, answer)
        if self._file is None:
            self._file = self._stack.enter_context(
                VideoFile(self.path, self.source.fps, image.shape[:2]))
        for _ in range(due):
            self._file.write(np.ascontiguousarray(image))
        self.written += due

    def __exit__(self, *error: Any) -> bool | None:
        return self._stack.__exit__(*error)


def play(source: Source, stream: WindowStream, answers: Answers,
         seconds: float | None) -> None:
    """Send all frames of a source through a stream, until its end or the user's.

    Raises:
        BadVideoError: If no frame can be read.
    """
    total = source.total
    if seconds is not None:
        most = round(seconds * source.fps)
        total = most if total is None else min(total, most)
    with StopRequest() as stop, tqdm(total=total, unit='frame', dynamic_ncols=True,
                                     desc=source.name) as bar:
        for frame in source:
            if seconds is not None and frame.seconds >= seconds:
                break
            stream.feed(frame)
            bar.update()
            bar.set_postfix_str(answers.latest, refresh=False)
            if stop.asked:
                source.notes.append(f'stopped after {frame.number + 1} frames')
                break
        stream.finish()


def run(args: argparse.Namespace) -> None:
    """Run a model over a video and write what it says.

    Raises:
        ConfigError: If config, checkpoint and options do not go together.
        FileNotFoundError: If a file does not exist.
        BadVideoError: If no frame of the video can be read.
    """
    check_options(args)
    device = find_device(args.device)
    config = load_config(args.config, args.cfg_options, ('model', ))
    torch.manual_seed(args.seed)
    model = build_model(config)
    detector = detects(model, config, args.config)
    check_kind(detector, args)
    pipeline = WindowPipeline(config, args.config, detector)
    answers = make_answers(model, config, pipeline, args)
    if args.checkpoint != UNTRAINED:
        load_weights(model, args.checkpoint, args.config)
    model.to(device).eval()
    with torch.inference_mode(), ExitStack() as open_things:
        source = open_things.enter_context(open_source(args.video, args.seconds))
        pipeline.open(args.video, source.live)
        sampling = pipeline.sampling(args.window, source.fps)
        stride = args.stride or sampling.default_stride
        if answers.tokens is not None:
            open_things.enter_context(answers.tokens.trace)
        scores = open_things.enter_context(ScoreFile(args.json, dict(
            task=answers.task, video=source.name, config=args.config,
            checkpoint=args.checkpoint, names=answers.names, fps=source.fps,
            stride=stride)))
        player = open_things.enter_context(Player(args.out, source, answers))

        def ask(windows: Sequence[Window]) -> list[Any]:
            results = answers.ask(windows)
            for window, result in zip(windows, results, strict=True):
                scores.add(answers.entry(window, result))
            return results

        stream = WindowStream(sampling, stride, args.batch, ask, player.show)
        torch.manual_seed(args.seed)
        play(source, stream, answers, args.seconds)
        scores.end(dict(frames=stream.total, **answers.total()))
    for note in source.notes:
        print(f'note: {source.name}: {note}', file=sys.stderr)
    if args.checkpoint == UNTRAINED:
        print('untrained weights')
    print(answers.words())
    print(f'wrote {args.out} ({player.written} frames; at most {stream.most_held} '
          'frames were held at once)')
    if args.json is not None:
        print(f'wrote {args.json}')


def main(argv: Sequence[str] | None = None) -> None:
    """Run tools/demo.py.

    Args:
        argv: Options; the command line's unless given.

    Raises:
        SystemExit: With status 2, for a user's mistake.
    """
    args = parser().parse_args(argv)
    with report_mistakes():
        run(args)


if __name__ == '__main__':
    main()
