# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""mmaction2's video lists, read with checks.

mmaction2's ``VideoDataset`` gives a line without a label the label -1, fails on names
with spaces without naming the line, and reports a broken video in the words of its
decoder, which often leave out the file. Here every fault names the file, the line and
what to do.
"""
import logging
import os
from pathlib import Path
from typing import Any

from mmaction.datasets import VideoDataset
from mmaction.registry import DATASETS
from mmengine.fileio import exists, isdir, list_from_file
from mmengine.logging import print_log

# Part of a path -> the name under which MMAction2 documents how to get the dataset.
DOCUMENTED_DATASETS = {
    'kinetics400': 'Kinetics-400', 'kinetics600': 'Kinetics-600',
    'kinetics700': 'Kinetics-700', 'sthv1': 'Something-Something V1',
    'sthv2': 'Something-Something V2', 'diving48': 'Diving48',
    'hmdb51': 'HMDB51', 'ucf101': 'UCF-101', 'ava': 'AVA',
}


class BadVideoError(ValueError):
    """A video file that cannot be read; the message names the file and the reason."""


def missing_or_empty(path: str) -> str | None:
    """The faults of a file that show without opening it; None where it has none."""
    if not os.path.isfile(path):
        return 'no such file'
    return None if os.path.getsize(path) else 'the file is empty (0 bytes)'


def video_fault(path: str) -> str | None:
    """Find out why a video cannot be read, by decoding all of it with PyAV.

    Args:
        path (str): A local video file.

    Returns:
        str, optional: The reason, or None where every frame decodes.
    """
    import av
    reason = missing_or_empty(path)
    if reason is not None:
        return reason
    frames = 0
    try:
        with av.open(path) as container:
            if not container.streams.video:
                return 'it has no video stream'
            for _ in container.decode(video=0):
                frames += 1
    except av.FFmpegError as error:
        where = f'after {frames} frames' if frames else 'from the start'
        return f'corrupt {where} ({error.strerror})'
    return None if frames else 'it has no frames'


def dataset_advice(path: str, key: str, test_mode: bool, hint: str | None) -> str:
    """What to do about a file or folder of a dataset that is not there.

    Args:
        path (str): What is missing.
        key (str): The dataset's argument that names it.
        test_mode (bool): Whether the dataset is one for validation or test.
        hint (str, optional): The config's own advice.

    Returns:
        str: One sentence: how to get the data, and how to point the config to it.
    """
    folder = Path(path).parts[:2] if path.startswith('data/') else ()
    if hint is None:
        parts = Path(path.lower()).parts
        names = [name for part, name in DOCUMENTED_DATASETS.items()
                 if any(piece.split('_')[0] == part for piece in parts)]
        name = names[0] if names else 'your dataset'
        hint = (f'prepare it as the data preparation page for {name} of the MMAction2 '
                'documentation says')
    loaders = ('val_dataloader', 'test_dataloader') if test_mode else (
        'train_dataloader',)
    options = ' '.join(f'{loader}.dataset.{key}=PATH' for loader in loaders)
    link = f', link its folder to {"/".join(folder)}' if len(folder) == 2 else ''
    return f'{hint}{link}, or point to it with --cfg-options {options}'


def missing_list(path: str, test_mode: bool, hint: str | None) -> FileNotFoundError:
    """The error for an annotation file that does not exist.

    Args:
        path (str): The file.
        test_mode (bool): Whether the dataset is one for validation or test.
        hint (str, optional): The config's own advice.
    """
    return FileNotFoundError(
        f'annotation file {path} not found (ann_file of the dataset): '
        + dataset_advice(path, 'ann_file', test_mode, hint))


@DATASETS.register_module()
class CheckedVideoDataset(VideoDataset):
    """Videos and labels from a list, each fault reported by file and line.

    A line of the list is ``path label``, split at the last whitespace, so that paths
    may hold spaces. With ``multi_class=True`` it is ``path label label ...``, split at
    every delimiter. Blank lines are left out.

    A video that is missing, empty, corrupt or without frames raises an error that
    names it, from the moment the pipeline reads it. An error of the pipeline that is
    not the video's fault passes through, with the file added as a note.

    Args:
        *args: As for mmaction2's ``VideoDataset``.
        num_repeats (int, optional): Repeated augmentation: an item is a list of so many
            results of the pipeline, one or more, each with frames and augmentations of
            its own; collate with ``repeat_pseudo_collate``. Defaults to None: an item
            is the result itself.
        on_bad_video (str): ``'raise'``, or ``'skip'`` to log a warning, once per file
            and process, and take another sample, drawn at random by mmengine's
            ``max_refetch``. With ``test_mode=True`` a bad video always raises, since
            the score would be one of other videos. Defaults to ``'raise'``.
        hint (str, optional): How to get this dataset, for the message where it is not
            there. Defaults to the page of MMAction2's documentation.
        **kwargs: As for mmaction2's ``VideoDataset``. ``num_classes`` bounds the labels
            where it is given.

    Raises:
        FileNotFoundError: If the list or the folder of the videos does not exist.
        ValueError: If ``num_repeats`` is below 1, ``on_bad_video`` is another word, the
            list has no entries, or a line of it has no label, a label that is no
            integer, or one out of range.
    """

    def __init__(self, *args: Any, num_repeats: int | None = None,
                 on_bad_video: str = 'raise', hint: str | None = None,
                 **kwargs: Any) -> None:
        if num_repeats is not None and num_repeats < 1:
            raise ValueError(f'num_repeats must be at least 1, got {num_repeats}')
        self.num_repeats = num_repeats
        if on_bad_video not in ('raise', 'skip'):
            raise ValueError(f"on_bad_video must be 'raise' or 'skip', "
                             f'got {on_bad_video!r}')
        self.on_bad_video = on_bad_video
        self.hint = hint
        self._bad_videos: set[str] = set()
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Read the annotation list.

        Returns:
            list[dict]: ``filename`` and ``label`` of each sample.
        """
        folder = self.existing_folder()
        if self.multi_class and self.num_classes is None:
            raise ValueError('multi_class=True of the dataset needs num_classes')
        samples = []
        for number, line in enumerate(list_from_file(self.ann_file), start=1):
            if not line.strip():
                continue
            name, label = self._parse(line.strip(), number)
            samples.append(dict(filename=os.path.join(folder, name), label=label))
        if not samples:
            raise ValueError(f'annotation file {self.ann_file} (ann_file of the '
                             'dataset) has no entries, it needs lines `path label`')
        return samples

    def existing_folder(self) -> str:
        """The folder of the videos, once it and the annotation file are found.

        Returns:
            str: ``data_prefix.video``; empty where names are whole paths.

        Raises:
            FileNotFoundError: If either does not exist.
        """
        if not exists(self.ann_file):
            raise missing_list(self.ann_file, self.test_mode, self.hint)
        folder = self.data_prefix.get('video') or ''
        if folder and '://' not in folder and not isdir(folder):
            raise FileNotFoundError(
                f'folder of the videos {folder} not found (data_prefix.video of the '
                'dataset): ' + dataset_advice(folder, 'data_prefix.video',
                                              self.test_mode, self.hint))
        return folder

    def prepare_data(self, idx: int) -> Any:
        """Run the pipeline on a sample, ``num_repeats`` times.

        Args:
            idx (int): Index of the sample.

        Returns:
            Any: What the pipeline returns, or a list of that; None for a bad video
                that is skipped, at which mmengine draws another sample.
        """
        if self.num_repeats is None:
            return self._run_pipeline(idx)
        results = [self._run_pipeline(idx) for _ in range(self.num_repeats)]
        return None if None in results else results

    def _run_pipeline(self, idx: int) -> Any:
        info = self.get_data_info(idx)
        path = self._local_path(info['filename'])
        # before the decoders, some of which write to stderr as well
        reason = None if path is None else missing_or_empty(path)
        if reason is None:
            try:
                return self.pipeline(info)
            except Exception as error:
                reason = None if path is None else video_fault(path)
                if reason is None:
                    if hasattr(error, 'add_note'):  # Python 3.11
                        error.add_note(f'while reading video {info["filename"]}')
                    raise
        message = f'video {path} cannot be read: {reason} (listed in {self.ann_file})'
        if self.test_mode:
            raise BadVideoError(message)
        if self.on_bad_video == 'raise':
            raise BadVideoError(f"{message}; on_bad_video='skip' of the dataset leaves "
                                'such files out')
        self._note_skipped(path, message)
        return None

    def _parse(self, line: str, number: int) -> tuple[str, int | list[int]]:
        """Path and label (labels, with ``multi_class``) of one line."""
        # a blank stands for any whitespace, of any width
        delimiter = None if self.delimiter == ' ' else self.delimiter
        where = f'annotation file {self.ann_file} line {number}: {line!r}'
        if self.multi_class:
            name, *words = line.split(delimiter)
        else:
            name, *words = line.rsplit(delimiter, 1)
        if not words or not name.strip():
            raise ValueError(f'{where} has no label, it must be '
                             f'`path{self.delimiter}label`')
        labels = []
        for word in words:
            try:
                labels.append(int(word))
            except ValueError:
                raise ValueError(
                    f'{where} has no integer label, got {word!r}') from None
            limit = self.num_classes
            if labels[-1] < 0 or (limit is not None and labels[-1] >= limit):
                allowed = '0 or more' if limit is None else (
                    f'0 to {limit - 1}, as num_classes={limit}')
                raise ValueError(f'{where} has label {labels[-1]}, must be {allowed}')
        return name.strip(), labels if self.multi_class else labels[0]

    def _local_path(self, filename: str) -> str | None:
        """The file as mmaction2's decoders open it; None where it is not local."""
        if '://' in filename:
            return None
        # DecordInit adds the suffix where the list leaves it out
        if not os.path.splitext(filename)[1] and not os.path.exists(filename):
            return f'{filename}.mp4'
        return filename

    def _note_skipped(self, path: str, message: str) -> None:
        """Log a bad video the first time; raise once there is nothing but these."""
        if path in self._bad_videos:
            return
        self._bad_videos.add(path)
        if len(self._bad_videos) >= len(self):
            raise BadVideoError(f'none of the {len(self)} videos of {self.ann_file} '
                                f'can be read; the last: {message}')
        print_log(f'Skipped: {message}', logger='current', level=logging.WARNING)
