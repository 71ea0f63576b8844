# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Datasets read from the annotation files that their authors publish: Diving-48.

A dataset class rather than a script that writes mmaction2's lists: one step less
between download and training, and a fault is named by its place in the file that the
user has. Who has mmaction2's list of Diving-48 already may give it to
``CheckedVideoDataset``.
"""
import json
import os
from abc import abstractmethod
from typing import Any

from mmaction.registry import DATASETS
from mmengine.fileio import get_text

from .motion_dataset import MotionVideoDataset

OPTIONS_OF_LISTS = ('multi_class', 'delimiter')


class AnnotatedClips(MotionVideoDataset):
    """Videos of another annotation file, with motion or without.

    Pipelines, repeated augmentation and faults of videos are as `MotionVideoDataset`
    and `CheckedVideoDataset` have them.

    Args:
        *args: As for `CheckedVideoDataset`.
        **kwargs: The same, but for ``multi_class`` and ``delimiter``.

    Raises:
        TypeError: If ``multi_class`` or ``delimiter`` is given.
        FileNotFoundError: If the annotation file or the folder does not exist.
        ValueError: If the annotation file is faulty or has no entries.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        given = [key for key in OPTIONS_OF_LISTS if key in kwargs]
        if given:
            raise TypeError(f'{type(self).__name__} takes no {" and no ".join(given)}, '
                            'which describe lists of lines `path label`')
        super().__init__(*args, **kwargs)

    @abstractmethod
    def read_annotations(self) -> list[tuple[str, Any]]:
        """File name (below ``data_prefix.video``) and label of each sample."""

    def load_data_list(self) -> list[dict]:
        """Read the annotation file.

        Returns:
            list[dict]: ``filename`` and ``label`` of each sample.
        """
        folder = self.existing_folder()
        samples = [dict(filename=os.path.join(folder, name), label=label)
                   for name, label in self.read_annotations()]
        if not samples:
            raise ValueError(f'annotation file {self.ann_file} (ann_file of the '
                             'dataset) has no entries')
        return samples


def checked_class(value: Any, name: str, count: int, option: str, where: str) -> int:
    """A class number, if it is one.

    Args:
        value: What stands in the file, text or not.
        name (str): What it is called there.
        count (int): Classes.
        option (str): The dataset's argument that says how many.
        where (str): File and line.

    Returns:
        int: The number.

    Raises:
        ValueError: If it is no whole number, or out of range.
    """
    try:
        number = int(value) if isinstance(value, str) else value
        if not isinstance(number, int) or isinstance(number, bool):
            raise ValueError
    except ValueError:
        raise ValueError(f'{where} has no whole number as {name}, got {value!r}'
                         ) from None
    if not 0 <= number < count:
        raise ValueError(f'{where} has {name} {number}, must be 0 to {count - 1}, as '
                         f'{option}={count}')
    return number


@DATASETS.register_module()
class Diving48Dataset(AnnotatedClips):
    """Diving-48 from ``Diving48_V2_train.json`` and ``Diving48_V2_test.json``.

    The file is a list of objects with ``vid_name`` and ``label``; the video is
    ``vid_name.mp4``. Each video is one dive, so that ``start_frame`` and ``end_frame``,
    which stand in the file too, are not needed.

    Args:
        *args: As for `CheckedVideoDataset`.
        num_classes (int): Bounds the labels. Defaults to 48.
        **kwargs: As for `CheckedVideoDataset`, but for ``multi_class`` and
            ``delimiter``.

    Raises:
        TypeError: If ``multi_class`` or ``delimiter`` is given.
        FileNotFoundError: If the annotation file or the folder does not exist.
        ValueError: If the file is no such list, or an entry has no name or no label
            in range; the message says which, counted from 1.
    """

    def __init__(self, *args: Any, num_classes: int = 48, **kwargs: Any) -> None:
        super().__init__(*args, num_classes=num_classes, **kwargs)

    def read_annotations(self) -> list[tuple[str, int]]:
        """File name and label of each dive.

        Returns:
            list[tuple]: In the order of the file.
        """
        try:
            entries = json.loads(get_text(self.ann_file))
        except ValueError as error:
            raise ValueError(f'annotation file {self.ann_file} is not JSON: {error}'
                             ) from None
        if not isinstance(entries, list):
            raise ValueError(f'annotation file {self.ann_file} must be a list of '
                             'objects with vid_name and label, got '
                             f'{type(entries).__name__}')
        return [self._entry(entry, number) for number, entry in enumerate(entries, 1)]

    def _entry(self, entry: Any, number: int) -> tuple[str, int]:
        where = f'annotation file {self.ann_file} entry {number}'
        if not isinstance(entry, dict):
            raise ValueError(f'{where} must be an object with vid_name and label, got '
                             f'{entry!r}')
        name = entry.get('vid_name')
        if not isinstance(name, str) or not name or os.path.basename(name) != name:
            raise ValueError(f'{where} has no file name as vid_name, got {name!r}')
        label = checked_class(entry.get('label'), 'label', self.num_classes,
                              'num_classes', where)
        return f'{name}.mp4', label
