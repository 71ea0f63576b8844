# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""mmaction2's frame mAP of AVA, with its inputs checked.

The number is mmaction2's (`ava_eval`) but for one thing: boxes of excluded keyframes
are not counted as missed, as in AVA's own evaluation. Besides, files are checked before
training rather than after it, predictions that cannot be meant are errors, the file of
results lies in a temporary folder rather than in the current one, groups of classes
that the data lack are left out rather than NaN, and classes that nothing was predicted
for, which `ava_eval` leaves out of the mean, are named.
"""
import logging
import math
import os
import tempfile
import warnings
from collections.abc import Sequence
from typing import Any

from mmaction.evaluation import ava_eval, results2csv
from mmaction.evaluation.metrics import AVAMetric
from mmaction.registry import METRICS
from mmengine.logging import print_log

from ..datasets.ava import check_custom_classes
from ..datasets.ava_annotations import (
    Limits,
    read_excluded,
    read_label_map,
    read_lines,
    read_rows,
)
from .action_boxes import checked_predictions


@METRICS.register_module()
class CheckedAVAMetric(AVAMetric):
    """Frame mAP at IoU 0.5 over the classes of a label map.

    Args:
        ann_file (str): Annotations.
        exclude_file (str, optional): Keyframes to leave out; must be the dataset's.
        label_file (str): Label map; its classes count.
        num_classes (int): Classes plus one: columns of the predicted scores.
            Defaults to 81.
        custom_classes (list[int], optional): Labels that are used; must be the
            dataset's.
        **kwargs: As for mmaction2's ``AVAMetric``.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If a file is faulty (of ``ann_file`` all but whether timestamps are
            within the video), ``custom_classes`` does not fit, the label map has a
            label that the scores have no column for, or no annotation would count.
    """

    def __init__(self, ann_file: str, exclude_file: str | None, label_file: str,
                 num_classes: int = 81, custom_classes: list[int] | None = None,
                 **kwargs: Any) -> None:
        for key, path in (('ann_file', ann_file), ('exclude_file', exclude_file),
                          ('label_file', label_file)):
            if path is not None and not os.path.isfile(path):
                raise FileNotFoundError(f'{path} not found ({key} of CheckedAVAMetric)')
        excluded = {} if exclude_file is None else read_excluded(exclude_file)
        names = read_label_map(label_file)
        check_custom_classes(custom_classes, num_classes, label_file)
        if custom_classes is None and max(names) >= num_classes:
            raise ValueError(
                f'label map {label_file} has label {max(names)}, but num_classes of '
                f'CheckedAVAMetric is {num_classes}; it must be the largest label plus '
                '1, in dataset, model and metric')
        self.names = {label: names[label] for label in custom_classes or names}
        # The dataset knows when videos begin and end, and which labels may be trained.
        bound = num_classes if custom_classes is None else max(names) + 1
        rows = read_rows(ann_file, Limits(bound, None,
                                          lambda video: (-math.inf, math.inf)))
        if not any(row.label in self.names for row in rows if row.key not in excluded):
            raise ValueError(
                f'annotation file {ann_file} has no label of the label map {label_file}'
                f' that would count: it names {", ".join(map(str, self.names))}')
        super().__init__(ann_file, exclude_file, label_file, num_classes=num_classes,
                         custom_classes=custom_classes, **kwargs)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Note the predictions for each keyframe.

        Args:
            data_batch: Not needed.
            data_samples (Sequence[dict]): Predictions: ``pred_instances`` with
                ``bboxes`` (N, 4), x1, y1, x2, y2 from 0 to 1, and ``scores``
                (N, num_classes), column 0 unused; ``video_id``; ``timestamp``.

        Raises:
            ValueError: If they are of another form.
        """
        for sample in data_samples:
            boxes, _ = checked_predictions(sample, self.num_classes,
                                           type(self).__name__)
            if len(inside_out := boxes[(boxes[:, 2:] < boxes[:, :2]).any(1)]):
                raise ValueError(
                    f'{type(self).__name__} needs boxes x1, y1, x2, y2 with x1 <= x2 '
                    f'and y1 <= y2, got {inside_out[0].round(3).tolist()}')
        super().process(data_batch, data_samples)

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Frame mAP.

        Args:
            results (list): Predictions for all keyframes, from all processes.

        Returns:
            dict: ``overall``, and ``person_movement``, ``object_manipulation`` and
                ``person_interaction``, AVA's groups by label (1 to 14, 15 to 63, 64
                and up), as far as there are such classes.
        """
        self._name_silent_classes(results)
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, 'results.csv')
            results2csv(results, path, self.custom_classes)
            with warnings.catch_warnings():  # of groups without classes
                warnings.filterwarnings('ignore', 'Mean of empty slice')
                scores = ava_eval(path, self.options[0], self.label_file,
                                  self._write_counted(folder), self.exclude_file,
                                  verbose=False, custom_classes=self.custom_classes)
        return {name: float(score) for name, score in scores.items()
                if name == 'overall' or not math.isnan(score)}

    def _write_counted(self, folder: str) -> str:
        """Write the annotations without excluded keyframes; returns the file."""
        excluded = {} if self.exclude_file is None else read_excluded(self.exclude_file)
        path = os.path.join(folder, 'truth.csv')
        with open(path, 'w') as file:
            for line in read_lines(self.ann_file):
                video, timestamp = line.split(',', 2)[:2]
                if (video, int(timestamp)) not in excluded:
                    file.write(f'{line}\n')
        return path

    def _name_silent_classes(self, results: list[dict]) -> None:
        columns = self.custom_classes or range(self.num_classes)
        loud = {columns[column] for result in results
                for column, boxes in enumerate(result['outputs'], 1) if len(boxes)}
        silent = [name for label, name in self.names.items() if label not in loud]
        if silent:
            print_log('the mean of average precisions leaves out classes that have no '
                      f'score above action_thr={self.action_thr}: '
                      f'{", ".join(silent)}', 'current', logging.WARNING)
