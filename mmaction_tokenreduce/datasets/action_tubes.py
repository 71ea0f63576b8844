# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""JHMDB and UCF101-24: action tubes (Kalogeiton et al. 2017, arXiv:1705.01861).

``tools/data/convert_tube_pickle.py`` makes the JSON files that are read here. A tube is
an actor's boxes in consecutive frames with one class: rows of frame (from 1), x1, y1,
x2, y2 in pixels.
"""
import json
import os
from typing import Any, NamedTuple

import numpy as np
from mmaction.datasets.base import BaseActionDataset
from mmaction.registry import DATASETS
from mmengine.fileio import exists, get_text, isdir

from .frame_folders import frame_fault, run_pipeline
from .video_dataset import dataset_advice, missing_list


class Tubes(NamedTuple):
    """An annotation file.

    Attributes:
        labels (list[str]): Names of the classes, from 0.
        gttubes (dict): By video and class, a list of (N, 5) arrays: frame, and box as
            shares of the frame, within 0 to 1.
        nframes (dict): Frames of each video.
        train_videos (list): Videos to train on, by split.
        test_videos (list): Videos to test, by split.
    """

    labels: list[str]
    gttubes: dict[str, dict[int, list[np.ndarray]]]
    nframes: dict[str, int]
    train_videos: list[list[str]]
    test_videos: list[list[str]]

    def videos(self, split: int, test: bool) -> list[str]:
        """Videos of a split, counted from 1.

        Raises:
            ValueError: If there is no such split.
        """
        splits = self.test_videos if test else self.train_videos
        if not 1 <= split <= len(splits):
            raise ValueError(f'split is {split}, must be 1 to {len(splits)}')
        return splits[split - 1]


def read_tubes(path: str) -> Tubes:
    """Read and check an annotation file.

    Args:
        path (str): JSON of `tube_pickle.load_tubes`.

    Returns:
        Tubes: Its contents.

    Raises:
        ValueError: If it is faulty; the message names file, video and class.
    """
    if path.endswith('.pkl'):
        raise ValueError(f'{path} is a pickle, which could run code; make JSON of it '
                         'with tools/data/convert_tube_pickle.py')
    try:
        found = json.loads(get_text(path))
        splits = [found[key] for key in ('train_videos', 'test_videos')]
        tubes, frames, sizes = (found[key]
                                for key in ('gttubes', 'nframes', 'resolution'))
        labels = found['labels']
        if not isinstance(labels, list):
            raise ValueError('labels must be a list')
    except (ValueError, KeyError, TypeError) as error:
        missing = 'no ' if isinstance(error, KeyError) else ''
        raise ValueError(f'annotation file {path} is none of action tubes: '
                         f'{missing}{error}') from None
    listed = {name for kind in splits for split in kind for name in split}
    for video in sorted(listed.union(tubes)):
        lacking = [key for key, there in (('gttubes', tubes), ('nframes', frames),
                                          ('resolution', sizes)) if video not in there]
        if lacking:
            raise ValueError(f'annotation file {path} has no {", ".join(lacking)} for '
                             f'video {video}')
    checked = {video: {
        _class(label, len(labels), f'annotation file {path} video {video}'): [
            _tube(rows, frames[video], sizes[video],
                  f'annotation file {path} video {video} class {label} tube {number}')
            for number, rows in enumerate(entries)]
        for label, entries in classes.items()} for video, classes in tubes.items()}
    return Tubes(labels, checked, frames, *splits)


def _class(label: str, count: int, where: str) -> int:
    number = int(label) if label.isdecimal() else -1
    if not 0 <= number < count:
        raise ValueError(f'{where} has class {label}, must be 0 to {count - 1}')
    return number


def _tube(rows: list, frames: int, size: list, where: str) -> np.ndarray:
    """A tube with boxes as shares, clipped to the frame."""
    try:
        tube = np.asarray(rows, dtype=np.float64)
    except (TypeError, ValueError):  # rows of unequal length, words
        tube = np.empty(0)
    if tube.ndim != 2 or tube.shape[1] != 5 or not len(tube):
        raise ValueError(f'{where} must be rows of frame, x1, y1, x2, y2')
    numbers = tube[:, 0]
    wrong = ~((numbers >= 1) & (numbers <= frames) & (numbers == np.floor(numbers)))
    if wrong.any():
        raise ValueError(f'{where} has frame {numbers[wrong][0]:g}, must be a whole '
                         f'number from 1 to {frames}')
    height, width = size
    tube[:, 1:] = (tube[:, 1:] / (width, height, width, height)).clip(0, 1)
    wrong = ~((tube[:, 3] > tube[:, 1]) & (tube[:, 4] > tube[:, 2]))  # NaN, too
    if wrong.any():
        raise ValueError(f'{where} has no box within the frame in frame '
                         f'{int(numbers[wrong][0])}')
    return tube


def frame_truth(tubes: Tubes, video: str) -> dict[int, list[tuple[int, np.ndarray]]]:
    """By frame, the class (from 0) and box (4,) of each tube that it is in."""
    result: dict[int, list[tuple[int, np.ndarray]]] = {}
    for label, entries in tubes.gttubes[video].items():
        for row in (row for tube in entries for row in tube):
            result.setdefault(int(row[0]), []).append((label, row[1:]))
    return result


@DATASETS.register_module()
class ActionTubeDataset(BaseActionDataset):
    """A clip around each frame of JHMDB or UCF101-24.

    A sample is as AVA's: class k of the file is column k + 1 of the labels, column 0
    unused; ``timestamp`` is the frame's number, from 1.

    Args:
        ann_file (str): JSON of ``tools/data/convert_tube_pickle.py``.
        *args: As for mmaction2's ``BaseActionDataset``.
        num_classes (int): Classes plus one: 22 or 25.
        split (int): Split, from 1. With ``test_mode`` its videos for testing are read,
            else those for training. Defaults to 1.
        frames (str): ``'annotated'``, or ``'all'`` for those without an actor, too,
            whose detections count as wrong. Defaults to ``'annotated'``.
        filename_tmpl (str): Names of the frames in ``data_prefix.img/VIDEO``.
            Defaults to ``'{:05}.jpg'``.
        start_index (int): Number of the first frame's file. Defaults to 1.
        hint (str, optional): How to get this dataset, for the message where it is not
            there.
        **kwargs: As for ``BaseActionDataset``.

    Raises:
        FileNotFoundError: If the file or the folder of the frames does not exist.
        ValueError: If the file is faulty, has another number of classes, or no such
            split, or ``frames`` is another word.
    """

    def __init__(self, ann_file: str, *args: Any, num_classes: int, split: int = 1,
                 frames: str = 'annotated', filename_tmpl: str = '{:05}.jpg',
                 start_index: int = 1, hint: str | None = None, **kwargs: Any) -> None:
        if frames not in ('annotated', 'all'):
            raise ValueError(f"frames must be 'annotated' or 'all', got {frames!r}")
        self.split, self.frames, self.hint = split, frames, hint
        self.filename_tmpl = filename_tmpl
        super().__init__(ann_file, *args, num_classes=num_classes,
                         start_index=start_index, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Read the annotation file.

        Returns:
            list[dict]: A frame each.
        """
        if not exists(self.ann_file):
            raise missing_list(self.ann_file, self.test_mode, self.hint)
        folder = self.data_prefix.get('img') or ''
        if folder and not isdir(folder):
            raise FileNotFoundError(
                f'folder of the frames {folder} not found (data_prefix.img of the '
                'dataset): ' + dataset_advice(folder, 'data_prefix.img', self.test_mode,
                                              self.hint))
        tubes = read_tubes(self.ann_file)
        if self.num_classes != len(tubes.labels) + 1:
            raise ValueError(
                f'num_classes is {self.num_classes}; {self.ann_file} has '
                f'{len(tubes.labels)} classes, so it must be {len(tubes.labels) + 1}')
        return [dict(frame_dir=os.path.join(folder, video), video_id=video,
                     timestamp=number, img_key=f'{video},{number:05d}',
                     total_frames=tubes.nframes[video], truth=truth.get(number, []))
                for video in tubes.videos(self.split, self.test_mode)
                for truth in [frame_truth(tubes, video)]
                for number in range(1, tubes.nframes[video] + 1)
                if self.frames == 'all' or number in truth]

    def get_data_info(self, idx: int) -> dict:
        """The annotation of a frame, one box for each actor.

        Args:
            idx (int): Its index.

        Returns:
            dict: ``gt_bboxes`` (N, 4), shares; ``gt_labels`` (N, num_classes).
        """
        info = super().get_data_info(idx)
        info.update(fps=1, timestamp_start=1, filename_tmpl=self.filename_tmpl)
        found: dict[tuple, list[int]] = {}
        for label, box in info.pop('truth'):
            found.setdefault(tuple(box), []).append(label + 1)
        info['gt_bboxes'] = np.array(list(found), np.float32).reshape(-1, 4)
        info['gt_labels'] = np.zeros((len(found), self.num_classes), np.float32)
        for row, classes in zip(info['gt_labels'], found.values(), strict=True):
            row[classes] = 1
        return info

    def prepare_data(self, idx: int) -> Any:
        """Run the pipeline on a frame.

        Args:
            idx (int): Its index.

        Returns:
            Any: What the pipeline returns.
        """
        info = self.get_data_info(idx)
        where = (f'frame {info["timestamp"]} of video {info["video_id"]} in '
                 f'{self.ann_file}')
        return run_pipeline(self.pipeline, info, where, _fault)


def _fault(info: dict) -> tuple[str, str] | None:
    """File and reason, if a frame is why the pipeline failed on a sample."""
    fault = frame_fault(info) if 'frame_inds' in info else None
    return fault and (f'frame {fault[0]}', fault[1])
