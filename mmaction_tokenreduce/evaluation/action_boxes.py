# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Average precision of boxes, and what detection metrics read of a prediction.

Boxes are x1, y1, x2, y2. Shapes: N detections, M true boxes, C classes.
"""
from collections.abc import Mapping

import numpy as np

LARGEST = 1.5  # a share of the frame that no clipped or unclipped box should exceed


def checked_predictions(sample: Mapping, num_classes: int,
                        metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Boxes and scores that a detector predicts for a keyframe.

    Args:
        sample (Mapping): Holds ``pred_instances`` with ``bboxes`` and ``scores``.
        num_classes (int): Classes plus one.
        metric (str): Who asks.

    Returns:
        tuple: (N, 4) boxes, from 0 to 1; (N, num_classes) scores, column 0 unused.

    Raises:
        ValueError: If they are of another form.
    """
    pred = sample.get('pred_instances')
    if pred is None or any(key not in pred for key in ('bboxes', 'scores')):
        raise ValueError(f'{metric} needs pred_instances with bboxes and scores, got '
                         f'{pred if pred is None else sorted(pred.keys())}')
    boxes, scores = (pred[key].detach().float().cpu().numpy()
                     for key in ('bboxes', 'scores'))
    if boxes.ndim != 2 or boxes.shape[1] != 4 or (
            scores.shape != (len(boxes), num_classes)):
        raise ValueError(
            f'{metric} with num_classes={num_classes} needs bboxes (N, 4) and scores '
            f'(N, {num_classes}), got {list(boxes.shape)} and {list(scores.shape)}; '
            'num_classes is the number of classes plus 1, in dataset, model and metric')
    if not np.isfinite(boxes).all() or not np.isfinite(scores).all():
        raise ValueError(f'{metric} got boxes or scores that are not finite')
    if len(boxes) and boxes.max() > LARGEST:
        raise ValueError(f'{metric} needs boxes as shares of the frame, from 0 to 1, '
                         f'got {boxes[boxes.max(1).argmax()].round(2).tolist()}; '
                         'divide x by the width and y by the height')
    return boxes, scores


def box_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of all pairs.

    Args:
        boxes (np.ndarray): (..., N, 4).
        others (np.ndarray): (..., M, 4).

    Returns:
        np.ndarray: (..., N, M); 0 where both have no area.
    """
    one, other = boxes[..., :, None, :], others[..., None, :, :]
    low = np.maximum(one[..., :2], other[..., :2])
    high = np.minimum(one[..., 2:], other[..., 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    areas = [np.clip(box[..., 2:] - box[..., :2], 0, None).prod(-1)
             for box in (one, other)]
    union = areas[0] + areas[1] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def average_precision(scores: np.ndarray, hits: np.ndarray, total: int) -> float:
    """Area under the curve of precision over recall, made monotonous (VOC 2010).

    Args:
        scores (np.ndarray): (N,) scores of the detections.
        hits (np.ndarray): (N,) whether each is right.
        total (int): True instances.

    Returns:
        float: From 0 to 1.

    Raises:
        ValueError: If there is no true instance.
    """
    if total < 1:
        raise ValueError('average precision needs a true instance')
    order = np.argsort(-np.asarray(scores), kind='stable')
    right = np.cumsum(np.asarray(hits, bool)[order])
    precision = right / np.arange(1, len(right) + 1)
    # the best precision at this recall or a larger one
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    gain = np.diff(right, prepend=0) / total
    return float((envelope * gain).sum())
