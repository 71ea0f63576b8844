# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""EPIC-KITCHENS-100 from its official CSV files, with a clip for each action.

The videos are published whole, minutes to an hour long, with actions of seconds in
them. The dataset reads clips that ``tools/data/cut_epic_clips.py`` cuts once, since a
sample of a whole video would cost a search in it and the decoding of up to a group of
pictures before its first frame.
"""
import csv
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from mmaction.registry import DATASETS
from mmengine.fileio import list_from_file

from .annotated_clips import AnnotatedClips, checked_class

CLIP_SUFFIX = '.mp4'
NAME = re.compile(r'\w[\w-]*')  # no path can be made of it
TIME = re.compile(r'(\d+):([0-5]?\d):([0-5]?\d(?:\.\d+)?)')


class EpicSegment(NamedTuple):
    """Where an action stands in a whole video."""

    narration_id: str
    video_id: str
    start: float  # seconds
    stop: float  # seconds

    @property
    def clip(self) -> str:
        """File name of its clip."""
        return self.narration_id + CLIP_SUFFIX


def read_segments(path: str) -> list[EpicSegment]:
    """Where the actions of a CSV file stand; it may be the unlabelled test set's.

    Times rather than frame numbers, which count the frames of the published images.

    Args:
        path (str): EPIC_100_train.csv, EPIC_100_validation.csv or alike.

    Returns:
        list[EpicSegment]: In the order of the file.

    Raises:
        ValueError: If a column is missing, an identifier is none or comes twice, or a
            time is none or not after the start; the message names file and line.
    """
    columns = ('narration_id', 'video_id', 'start_timestamp', 'stop_timestamp')
    segments = []
    for where, row in _rows(path, columns):
        start, stop = (_seconds(row[column], column, where) for column in columns[2:])
        if stop <= start:
            raise ValueError(f'{where} stops at {row["stop_timestamp"]}, must be after '
                             f'its start {row["start_timestamp"]}')
        video = _name(row['video_id'], 'video_id', where)
        segments.append(EpicSegment(row['narration_id'], video, start, stop))
    return segments


@DATASETS.register_module()
class EpicKitchensDataset(AnnotatedClips):
    """EPIC-KITCHENS-100 from ``EPIC_100_train.csv`` and ``EPIC_100_validation.csv``.

    Reads the columns ``narration_id``, ``verb_class`` and ``noun_class``, wherever
    they stand; the clip is ``narration_id.mp4``. The label of a sample is the list
    [verb, noun], which ``PackActionInputs`` makes the ``gt_label`` of `VerbNounHead`.

    Args:
        *args: As for `CheckedVideoDataset`.
        num_verbs (int): Bounds the verbs. Defaults to 97.
        num_nouns (int): Bounds the nouns. Defaults to 300.
        **kwargs: As for `CheckedVideoDataset`, but for ``num_classes``,
            ``multi_class`` and ``delimiter``.

    Raises:
        TypeError: If ``num_classes``, ``multi_class`` or ``delimiter`` is given.
        FileNotFoundError: If the annotation file or the folder does not exist.
        ValueError: If a column is missing, an identifier is none or comes twice, or a
            class is none or out of range; the message names file and line.
    """

    def __init__(self, *args: Any, num_verbs: int = 97, num_nouns: int = 300,
                 **kwargs: Any) -> None:
        if 'num_classes' in kwargs:
            raise TypeError('EpicKitchensDataset takes no num_classes, but num_verbs '
                            'and num_nouns')
        self.counts = dict(verb=num_verbs, noun=num_nouns)
        super().__init__(*args, **kwargs)

    def read_annotations(self) -> list[tuple[str, list[int]]]:
        """File name and [verb, noun] of each action.

        Returns:
            list[tuple]: In the order of the file.
        """
        columns = ('narration_id', *(f'{task}_class' for task in self.counts))
        samples = []
        for where, row in _rows(self.ann_file, columns):
            label = [checked_class(row[f'{task}_class'], f'{task}_class', count,
                                   f'num_{task}s', where)
                     for task, count in self.counts.items()]
            samples.append((row['narration_id'] + CLIP_SUFFIX, label))
        return samples


def _rows(path: str, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Place (file and line) and cells of each row, its narration_id checked."""
    # utf-8-sig: a spreadsheet may have put a byte order mark in front
    reader = csv.DictReader(list_from_file(path, encoding='utf-8-sig'))
    missing = [name for name in columns if name not in (reader.fieldnames or ())]
    if missing:
        raise ValueError(f'annotation file {path} line 1 has no column '
                         f'{", ".join(missing)}; got {reader.fieldnames}')
    seen = {}
    for row in reader:
        where = f'annotation file {path} line {reader.line_num}'
        lacking = [name for name in columns if not row[name]]
        if lacking:
            raise ValueError(f'{where} has no {", ".join(lacking)}')
        name = _name(row['narration_id'], 'narration_id', where)
        if name in seen:
            raise ValueError(f'{where} has narration_id {name}, as line {seen[name]}')
        seen[name] = reader.line_num
        yield where, row


def _name(text: str, column: str, where: str) -> str:
    if not NAME.fullmatch(text):
        raise ValueError(f'{where} has {column} {text!r}, must be letters, digits, _ '
                         'and -')
    return text


def _seconds(text: str, column: str, where: str) -> float:
    match = TIME.fullmatch(text)
    if match is None:
        raise ValueError(f'{where} has {column} {text!r}, must be '
                         'hours:minutes:seconds')
    hours, minutes, seconds = match.groups()
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
