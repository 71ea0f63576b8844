# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What a model says of each window of a video, in pictures, words and numbers.

Legend: K classes, n actors.
"""
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from _clips import predict_batch, scores_of
from _video_panel import LETTERS, Panel
from _video_source import Frame
from _video_tokens import TokenDrawing
from _video_windows import Window, WindowPipeline
from mmaction.models.heads import BaseHead
from mmengine.dataset import pseudo_collate
from torch import nn

from mmaction_tokenreduce.engine.user_errors import ConfigError
from mmaction_tokenreduce.visualization import Overlay
from mmaction_tokenreduce.visualization.detection_picture import (
    action_captions,
    draw_detections,
)

ONE_TASK = 'class'


class Answers:
    """Base: asks a model about windows and shows what it said.

    Args:
        model: The model.
        pipeline: The test pipeline.
        tokens: Draws what the model did to tokens; None to leave that out.
        top_k: Actions that are shown, the best ones.

    Attributes:
        task: What kind of model it is.
        names: Of its classes.
        latest: The last answer in a few words.
    """
    task: str
    names: Mapping[Any, Any]
    latest = ''

    def __init__(self, model: nn.Module, pipeline: WindowPipeline,
                 tokens: TokenDrawing | None, top_k: int) -> None:
        self.model, self.pipeline, self.tokens = model, pipeline, tokens
        self.top_k, self.count = top_k, 0

    def ask(self, windows: Sequence[Window]) -> list[Any]:
        """An answer for each window.

        Raises:
            ConfigError: If the model cannot take them.
        """
        packed = [self.pipeline.pack(window) for window in windows]
        frames = len(windows[0].inds)
        what = f'{len(windows)} windows of {frames} frames'
        if self.tokens is not None:
            self.tokens.begin(windows[0].frames[0].size)
        samples = predict_batch(self.model, pseudo_collate(packed), what)
        self.count += len(windows)
        overlays: list[Overlay | None] = [None] * len(windows)
        if self.tokens is not None:
            overlays = self.tokens.look(packed, samples)
        return [self._answer(window, sample, overlay) for window, sample, overlay
                in zip(windows, samples, overlays, strict=True)]

    def picture(self, frame: Frame, window: Window, answer: Any) -> np.ndarray:
        """The frame (H, W, 3) uint8 with the answer that belongs to it."""
        raise NotImplementedError  # abstract

    def entry(self, window: Window, answer: Any) -> dict[str, Any]:
        """The answer as numbers, with all scores."""
        raise NotImplementedError  # abstract

    def total(self) -> dict[str, Any]:
        """What is said of the whole video, as numbers."""
        raise NotImplementedError  # abstract

    def words(self) -> str:
        """What is said of the whole video."""
        raise NotImplementedError  # abstract

    def _answer(self, window: Window, sample: Any, overlay: Overlay | None) -> Any:
        raise NotImplementedError  # abstract

    def _with_tokens(self, frame: Frame, window: Window,
                     overlay: Overlay | None) -> np.ndarray:
        image, sampled = frame.rgb(), window.sampled(frame.number)
        if overlay is not None and sampled is not None:
            self.tokens.draw(image, overlay, sampled, len(window.inds))
        return image


class Recognized(NamedTuple):
    """The scores (K, ) of each task, and what is drawn of the tokens."""
    scores: dict[str, np.ndarray]
    overlay: Overlay | None


class Recognition(Answers):
    """Scores of classes: a panel below the picture shows the best ones.

    Scores are probabilities, averaged over the views of a window; a head that would
    average or give logits is set to that.

    Args:
        names: Of the classes, by task; None where a task has none.
        least_width: Narrower frames are enlarged, by a whole number.
        scale: How often frames are enlarged; None for what ``least_width`` needs.
    """
    task = 'recognition'

    def __init__(self, *args: Any, names: Mapping[str, Sequence[str] | None],
                 scale: int | None, least_width: int = 320) -> None:
        super().__init__(*args)
        self.names, self.scale, self.least_width = names, scale, least_width
        self.sums: dict[str, np.ndarray] = {}
        self._panel: tuple[int, np.ndarray] | None = None
        head = self.model.cls_head
        if isinstance(head, BaseHead):
            head.average_clips = 'prob'

    def _answer(self, window: Window, sample: Any,
                overlay: Overlay | None) -> Recognized:
        scores = scores_of(sample)
        if not isinstance(scores, Mapping):
            scores = {ONE_TASK: scores}
        scores = {task: row.double().numpy() for task, row in scores.items()}
        for task, row in scores.items():
            self.sums[task] = self.sums.get(task, 0) + row
        self.latest = ', '.join(f'{self.name(task, k)} {row[k]:.2f}'
                                for task, row in scores.items()
                                for k in self.best(row)[:1])
        return Recognized(scores, overlay)

    def best(self, row: np.ndarray) -> list[int]:
        """The classes of the highest scores (K, ), best first."""
        return np.argsort(-row, kind='stable')[:self.top_k].tolist()

    def name(self, task: str, number: int) -> str:
        """'dancing', or 'class 3' where names are not known."""
        names = self.names.get(task)
        return names[number] if names else f'{task} {number}'

    def picture(self, frame: Frame, window: Window, answer: Recognized) -> np.ndarray:
        image = self._with_tokens(frame, window, answer.overlay)
        scale = self.scale or -(-self.least_width // image.shape[1])
        if scale > 1:
            image = cv2.resize(image, None, fx=scale, fy=scale,
                               interpolation=cv2.INTER_NEAREST)
        if self._panel is None or self._panel[0] != window.anchor:
            self._panel = window.anchor, self._draw_panel(window, answer,
                                                          image.shape[1])
        return np.concatenate((image, self._panel[1]))

    def _draw_panel(self, window: Window, answer: Recognized,
                    width: int) -> np.ndarray:
        title = '' if answer.overlay is None else answer.overlay.title
        notes = textwrap.wrap(title, LETTERS)
        best = [(task, k, row[k]) for task, row in answer.scores.items()
                for k in self.best(row)]
        panel = Panel(width, 1 + len(best) + len(notes))
        panel.write(f'frames {window.anchor} to {window.last}, from '
                    f'{_begin(window):.1f} s')
        for task, k, score in best:
            panel.write(f'{score:.2f}  {self.name(task, k)}', float(score))
        for note in notes:
            panel.write(note)
        return panel.image

    def entry(self, window: Window, answer: Recognized) -> dict[str, Any]:
        return dict(first_frame=window.anchor, last_frame=window.last,
                    seconds=round(_begin(window), 3),
                    scores=self._plain(answer.scores))

    def total(self) -> dict[str, Any]:
        return dict(mean_scores=self._plain(self._means()))

    def _means(self) -> dict[str, np.ndarray]:
        return {task: row / self.count for task, row in self.sums.items()}

    def _plain(self, scores: Mapping[str, np.ndarray]) -> Any:
        rows = {task: [round(value, 6) for value in row.tolist()]
                for task, row in scores.items()}
        return rows[ONE_TASK] if list(rows) == [ONE_TASK] else rows

    def words(self) -> str:
        lines = [f'mean of {self.count} window{"s" * (self.count > 1)}:']
        for task, row in self._means().items():
            lines += [f'{place}. {self.name(task, k)}: {row[k]:.3f}'
                      for place, k in enumerate(self.best(row), 1)]
        return '\n'.join(lines)


class Detected(NamedTuple):
    """What was found on a keyframe.

    Attributes:
        boxes: (n, 4) as shares of the frame, x1 y1 x2 y2.
        persons: (n, ), how much each is a person.
        scores: (n, K + 1), of label k in column k.
        captions: The best actions of each, in words.
        overlay: What is drawn of the tokens.
    """
    boxes: np.ndarray
    persons: np.ndarray
    scores: np.ndarray
    captions: list[list[str]]
    overlay: Overlay | None


class Detection(Answers):
    """Boxes of actors and their actions, drawn on frames of the video's own size.

    Args:
        names: Of actions, by label from 1.
        score_thr: Actions of at least this score are shown.
        person_thr: Boxes that are a person with at least this probability are.
        scale: How often frames are enlarged.
    """
    task = 'detection'

    def __init__(self, *args: Any, names: Mapping[int, str], score_thr: float,
                 person_thr: float, scale: int) -> None:
        super().__init__(*args)
        self.names, self.scale = names, scale
        self.score_thr, self.person_thr = score_thr, person_thr
        self.model.person_thr = person_thr
        self.seen: Counter[str] = Counter()
        self.actors = 0
        self._view: tuple[tuple[int, int], np.ndarray] | None = None

    def _answer(self, window: Window, sample: Any, overlay: Overlay | None) -> Detected:
        found = sample.pred_instances
        boxes, persons, scores = (part.float().cpu().numpy() for part in (
            found.bboxes, found.person_scores, found.scores))
        # the model gives all boxes where it finds nobody
        there = persons >= self.person_thr
        lines = action_captions(scores[there], self.names, self.score_thr,
                                self.top_k)
        self.actors += len(lines)
        self.seen.update(line.rpartition(' ')[0] for some in lines for line in some)
        self.latest = f'{len(lines)} actor{"s" * (len(lines) != 1)}'
        return Detected(self._of_frame(boxes[there], window.frames[0].size),
                        persons[there], scores[there], lines, overlay)

    def _of_frame(self, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Boxes as shares of the view, as shares of the frame."""
        if self._view is None or self._view[0] != size:
            top, left, bottom, right = self.pipeline.views(size)[0]
            self._view = size, np.array([left, top, right, bottom], np.float32)
        low, high = self._view[1][:2], self._view[1][2:]
        return np.tile(low, 2) + boxes * np.tile(high - low, 2)

    def picture(self, frame: Frame, window: Window, answer: Detected) -> np.ndarray:
        image = self._with_tokens(frame, window, answer.overlay)
        if self.scale > 1:
            image = cv2.resize(image, None, fx=self.scale, fy=self.scale,
                               interpolation=cv2.INTER_NEAREST)
        return draw_detections(image, answer.boxes, answer.captions)

    def entry(self, window: Window, answer: Detected) -> dict[str, Any]:
        height, width = window.frames[0].size
        pixels = answer.boxes * np.array([width, height] * 2)
        seconds = window.frames[window.key].seconds
        return dict(keyframe=window.anchor, seconds=round(seconds, 3), actors=[
            dict(box=np.round(box, 2).tolist(), person=round(float(person), 6),
                 scores=[round(value, 6) for value in row[1:].tolist()])
            for box, person, row in zip(pixels, answer.persons, answer.scores,
                                        strict=True)])

    def total(self) -> dict[str, Any]:
        return dict(keyframes=self.count, boxes=self.actors)

    def words(self) -> str:
        lines = [f'{self.actors} boxes of actors on {self.count} keyframes']
        lines += [f'{name}: {times} times' for name, times in
                  self.seen.most_common(self.top_k)]
        return '\n'.join(lines)


def _begin(window: Window) -> float:
    """When a window begins, in seconds."""
    return window.frames[0].seconds


def recognition_names(count: int | Sequence[int], names: Sequence[str] | None,
                      path: str | None) -> dict[str, Sequence[str] | None]:
    """Names by task, where a model has one task.

    Args:
        count: Classes of the model, or of each of its tasks.
        names: Of the classes, if there is one task and they are known.
        path: ``--classes``.

    Raises:
        ConfigError: If there is a file of names for a model with several tasks.
    """
    if isinstance(count, int):
        return {ONE_TASK: names}
    if path is not None:
        raise ConfigError(f'--classes {path}: the model has several tasks, whose '
                          'classes go by number')
    return {}
