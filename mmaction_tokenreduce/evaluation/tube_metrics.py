# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Frame mAP and video mAP of action tubes (JHMDB, UCF101-24).

Matching and linking as in Kalogeiton et al. 2017 (arXiv:1705.01861), for detections of
single frames. Deviates from their code: the area under the precision-recall curve is
VOC 2010's, and boxes are continuous (no +1 on width and height).

Shapes: N detections of a frame, C classes; a tube is (L, 5), frame and box, in
consecutive frames.
"""
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from mmaction.registry import METRICS
from mmengine.evaluator import BaseMetric

from ..datasets.action_tubes import Tubes, frame_truth, read_tubes
from .action_boxes import average_precision, box_iou, checked_predictions

Detections = dict[int, tuple[np.ndarray, np.ndarray]]  # by frame: boxes, scores


def matched(scores: Sequence[float], overlaps: Sequence[np.ndarray],
            groups: Sequence[Any], threshold: float) -> np.ndarray:
    """Which detections are right, each true instance being found once.

    In the order of their scores, each detection takes the free instance that it
    overlaps most, if that is enough.

    Args:
        scores (Sequence[float]): (N,) scores.
        overlaps (Sequence[np.ndarray]): Of each detection, its overlap with the true
            instances of its group.
        groups (Sequence): Of each detection, the frame or video that it is in.
        threshold (float): Least overlap.

    Returns:
        np.ndarray: (N,) bool.
    """
    hits = np.zeros(len(scores), bool)
    taken: dict[Any, np.ndarray] = {}
    for at in np.argsort(-np.asarray(scores), kind='stable'):
        if not len(overlaps[at]):
            continue
        used = taken.setdefault(groups[at], np.zeros(len(overlaps[at]), bool))
        free = np.where(used, -1.0, overlaps[at])
        best = int(free.argmax())
        if free[best] >= threshold:
            hits[at] = used[best] = True
    return hits


def suppress(boxes: np.ndarray, scores: np.ndarray, threshold: float,
             most: int) -> np.ndarray:
    """Non-maximum suppression.

    Args:
        boxes (np.ndarray): (N, 4).
        scores (np.ndarray): (N,).
        threshold (float): Boxes that overlap a better one more than this go.
        most (int): How many stay at most.

    Returns:
        np.ndarray: Indices of those that stay, the best first.
    """
    order = list(np.argsort(-scores, kind='stable'))
    overlap = box_iou(boxes, boxes)
    kept: list[int] = []
    while order and len(kept) < most:
        kept.append(order.pop(0))
        order = [at for at in order if overlap[kept[-1], at] <= threshold]
    return np.array(kept, int)


def link(frames: Detections, column: int, *, min_iou: float = 0.2, max_gap: int = 5,
         nms: float = 0.3, most: int = 10) -> list[tuple[np.ndarray, float]]:
    """Link the detections of a class in a video to tubes.

    From frame to frame, links in the order of their mean scores take the best free
    box that overlaps their last one; boxes that are left begin links. A link without a
    box for more than `max_gap` frames ends; gaps are filled linearly.

    Args:
        frames (Detections): Detections of the video.
        column (int): Column of the scores.
        min_iou (float): Least overlap with the last box. Defaults to 0.2.
        max_gap (int): Defaults to 5.
        nms (float): For `suppress`, frame by frame. Defaults to 0.3.
        most (int): Boxes of a frame that are linked. Defaults to 10.

    Returns:
        list: Tubes (L, 5) and their scores, the mean of their detections'.
    """
    links: list[list[tuple[int, np.ndarray, float]]] = []
    done: list[list[tuple[int, np.ndarray, float]]] = []
    for number in sorted(frames):
        boxes, scores = frames[number][0], frames[number][1][:, column]
        free = list(suppress(boxes, scores, nms, most))
        done += [one for one in links if number - one[-1][0] > max_gap]
        links = [one for one in links if number - one[-1][0] <= max_gap]
        links.sort(key=_mean_score, reverse=True)
        for one in links:
            near = [at for at in free
                    if box_iou(one[-1][1][None], boxes[at][None])[0, 0] >= min_iou]
            if near:  # the best stand first
                one.append((number, boxes[near[0]], float(scores[near[0]])))
                free.remove(near[0])
        links += [[(number, boxes[at], float(scores[at]))] for at in free]
    return [(_filled(one), _mean_score(one)) for one in done + links]


def _mean_score(entries: list[tuple[int, np.ndarray, float]]) -> float:
    return float(np.mean([score for _, _, score in entries]))


def _filled(entries: list[tuple[int, np.ndarray, float]]) -> np.ndarray:
    """A tube without gaps."""
    numbers = np.array([number for number, _, _ in entries])
    boxes = np.array([box for _, box, _ in entries])
    frames = np.arange(numbers[0], numbers[-1] + 1)
    sides = [np.interp(frames, numbers, side) for side in boxes.T]
    return np.stack([frames, *sides], axis=1)


def tube_iou(one: np.ndarray, other: np.ndarray) -> float:
    """Overlap of two tubes: that in time, times the mean one of boxes in frames of
    both.

    Args:
        one (np.ndarray): (L, 5).
        other (np.ndarray): (M, 5).
    """
    _, mine, its = np.intersect1d(one[:, 0], other[:, 0], return_indices=True)
    if not len(mine):
        return 0.0
    shared = box_iou(one[mine, None, 1:], other[its, None, 1:]).mean()
    return float(len(mine) / (len(one) + len(other) - len(mine)) * shared)


class _TubeMetric(BaseMetric):
    """Collects detections by video and frame; the truth is the annotation file's."""

    def __init__(self, ann_file: str, num_classes: int, split: int = 1,
                 score_thr: float = 0.002, collect_device: str = 'cpu',
                 prefix: str | None = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.tubes = read_tubes(ann_file)
        if num_classes != len(self.tubes.labels) + 1:
            raise ValueError(
                f'num_classes of {type(self).__name__} is {num_classes}; {ann_file} '
                f'has {len(self.tubes.labels)} classes, so it must be '
                f'{len(self.tubes.labels) + 1}')
        self.videos = self.tubes.videos(split, test=True)
        self.num_classes, self.score_thr = num_classes, score_thr

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Note the detections in each frame.

        Args:
            data_batch: Not needed.
            data_samples (Sequence[dict]): Predictions: ``pred_instances`` with
                ``bboxes`` (N, 4), shares, and ``scores`` (N, num_classes), column 0
                unused; ``video_id``; ``timestamp``, the frame's number.

        Raises:
            ValueError: If they are of another form or of another video.
        """
        known = set(self.videos)
        for sample in data_samples:
            boxes, scores = checked_predictions(sample, self.num_classes,
                                                type(self).__name__)
            if sample['video_id'] not in known:
                raise ValueError(f'{type(self).__name__} got video '
                                 f'{sample["video_id"]}, which is not in its split; '
                                 'dataset and metric need the same split')
            some = (scores[:, 1:] > self.score_thr).any(1)
            self.results.append((sample['video_id'], int(sample['timestamp']),
                                 boxes[some], scores[some, 1:]))

    def _by_video(self, results: Iterable[tuple]) -> dict[str, Detections]:
        # ranks may have been given a frame twice: the same detections
        found: dict[str, Detections] = {video: {} for video in self.videos}
        for video, number, boxes, scores in results:
            found[video][number] = (boxes, scores)
        return found


def _mean_over_classes(values: dict[int, float]) -> float:
    return float(np.mean(list(values.values()))) if values else 0.0


@METRICS.register_module()
class FrameMAP(_TubeMetric):
    """Mean over classes of the average precision of boxes in frames.

    Args:
        ann_file (str): Annotations, as the dataset's.
        num_classes (int): Classes plus one, as the dataset's.
        split (int): As the dataset's. Defaults to 1.
        iou_thr (float): Least overlap of a right box. Defaults to 0.5.
        score_thr (float): Boxes without a score above it are left out.
            Defaults to 0.002.
        **kwargs: As for mmengine's ``BaseMetric``.

    Raises:
        ValueError: If ``num_classes`` or ``split`` does not fit the file.
    """

    default_prefix = 'frame_mAP'

    def __init__(self, *args: Any, iou_thr: float = 0.5, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.iou_thr = iou_thr

    def compute_metrics(self, results: list[tuple]) -> dict[str, float]:
        """Frame mAP.

        Args:
            results (list): Detections of all frames, from all processes.

        Returns:
            dict: The value, by threshold.
        """
        found = self._by_video(results)
        return {f'{self.iou_thr:g}': _mean_over_classes(
            frame_ap(self.tubes, found, self.iou_thr, self.score_thr))}


def frame_ap(tubes: Tubes, found: dict[str, Detections], threshold: float,
             score_thr: float = 0.0) -> dict[int, float]:
    """Average precision of each class that occurs in some videos.

    Args:
        tubes (Tubes): Annotations.
        found (dict): Detections by video; these videos are evaluated.
        threshold (float): Least overlap of a right box.
        score_thr (float): Lower scores are no detections. Defaults to 0.

    Returns:
        dict: By class, from 0.
    """
    truth = {video: frame_truth(tubes, video) for video in found}
    result = {}
    for label in range(len(tubes.labels)):
        total = sum(kind == label for frames in truth.values()
                    for boxes in frames.values() for kind, _ in boxes)
        if not total:
            continue
        scores, overlaps, groups = [], [], []
        for video, frames in found.items():
            for number, (boxes, all_scores) in frames.items():
                wanted = [box for kind, box in truth[video].get(number, [])
                          if kind == label]
                kept = all_scores[:, label] > score_thr
                scores += all_scores[kept, label].tolist()
                overlaps += list(box_iou(boxes[kept], np.reshape(wanted, (-1, 4))))
                groups += [(video, number)] * int(kept.sum())
        hits = matched(scores, overlaps, groups, threshold)
        result[label] = average_precision(scores, hits, total)
    return result


@METRICS.register_module()
class VideoMAP(_TubeMetric):
    """Mean over classes of the average precision of linked tubes.

    Args:
        ann_file (str): Annotations, as the dataset's.
        num_classes (int): Classes plus one, as the dataset's.
        split (int): As the dataset's. Defaults to 1.
        score_thr (float): Boxes without a score above it are left out.
            Defaults to 0.002.
        min_length (int): Shorter tubes are left out. Defaults to 15, the shortest
            videos of JHMDB.
        linking (dict, optional): Options of `link`.
        **kwargs: As for mmengine's ``BaseMetric``.

    Raises:
        ValueError: If ``num_classes`` or ``split`` does not fit the file.
    """

    default_prefix = 'video_mAP'

    def __init__(self, *args: Any, min_length: int = 15, linking: dict | None = None,
                 **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.min_length, self.linking = min_length, linking or {}

    def compute_metrics(self, results: list[tuple]) -> dict[str, float]:
        """Video mAP.

        Args:
            results (list): Detections of all frames, from all processes.

        Returns:
            dict: ``0.2``, ``0.5``, ``0.75``, and ``0.5:0.95``, the mean over
                thresholds of 0.5, 0.55 … 0.95.
        """
        found = self._by_video(results)
        range_of = np.arange(50, 100, 5) / 100
        thresholds = sorted({0.2, 0.75, *range_of.tolist()})
        values = {threshold: [] for threshold in thresholds}
        for label in range(len(self.tubes.labels)):
            wanted = {video: self.tubes.gttubes[video].get(label, [])
                      for video in found}
            total = sum(map(len, wanted.values()))
            if not total:
                continue
            scores, overlaps, groups = self._linked(found, wanted, label)
            for threshold in thresholds:
                hits = matched(scores, overlaps, groups, threshold)
                values[threshold].append(average_precision(scores, hits, total))
        means = {threshold: float(np.mean(some)) if some else 0.0
                 for threshold, some in values.items()}
        shown = {f'{threshold:g}': means[threshold] for threshold in (0.2, 0.5, 0.75)}
        shown['0.5:0.95'] = float(np.mean([means[one] for one in range_of.tolist()]))
        return shown

    def _linked(self, found: dict[str, Detections], wanted: dict[str, list],
                label: int) -> tuple[list, list, list]:
        """Scores of the tubes of a class, overlaps with the true ones, videos."""
        scores, overlaps, groups = [], [], []
        for video, frames in found.items():
            loud = {number: (boxes[kept], all_scores[kept])
                    for number, (boxes, all_scores) in frames.items()
                    for kept in [all_scores[:, label] > self.score_thr]}
            for tube, score in link(loud, label, **self.linking):
                if len(tube) >= self.min_length:
                    scores.append(score)
                    overlaps.append(np.array([tube_iou(tube, one)
                                              for one in wanted[video]]))
                    groups.append(video)
        return scores, overlaps, groups
