# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Folders of numbered frames: what is in them, and what is wrong with one."""
import os
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import cv2
import numpy as np

from .video_dataset import BadVideoError

_NUMBERED = re.compile(r'(.*?)(\d+)(\.\w+)')
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp')


class Numbering(NamedTuple):
    """How the files of a folder are named and numbered.

    Attributes:
        template (str): For mmaction2's ``filename_tmpl``.
        first (int): Number of the first file, for ``start_index``.
        count (int): Files.
        gaps (bool): Whether numbers are missing between the first and the last.
    """

    template: str
    first: int
    count: int
    gaps: bool

    def __str__(self) -> str:
        last = self.first + self.count - 1
        names = (f'{self.template.format(self.first)} to {self.template.format(last)}'
                 if not self.gaps else
                 f'{self.count} files from {self.template.format(self.first)} on, '
                 'with gaps')
        return names


def numbering(names: Iterable[str]) -> Numbering | None:
    """Find out how frames are named.

    Args:
        names (Iterable[str]): Files of a folder.

    Returns:
        Numbering, optional: That of the most frequent pattern; None where no file
            looks like a frame.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for name in names:
        match = _NUMBERED.fullmatch(name)
        if match and match[3].lower() in IMAGE_SUFFIXES:
            found.setdefault((match[1], match[3]), []).append(match[2])
    if not found:
        return None
    (prefix, suffix), digits = max(found.items(), key=lambda item: len(item[1]))
    numbers = sorted(map(int, digits))
    # numbers that outgrow their zeros are longer: the shortest tells
    width = min(map(len, digits))
    padded = width > 1 or all(len(text) == 1 for text in digits)
    template = f'{prefix}{{:0{width}}}{suffix}' if padded and width > 1 else (
        f'{prefix}{{}}{suffix}')
    return Numbering(template, numbers[0], len(numbers),
                     numbers[-1] - numbers[0] + 1 != len(numbers))


def folder_fault(folder: str, template: str, wanted: int) -> str:
    """Why a folder has no frame of some number, and what it has instead.

    Args:
        folder (str): The folder.
        template (str): ``filename_tmpl`` of the dataset.
        wanted (int): The frame's number.

    Returns:
        str: One clause, with advice.
    """
    if not os.path.isdir(folder):
        return ('no such folder; point data_prefix.img of the dataset to the folder '
                'that holds a folder of frames for each video')
    there = numbering(os.listdir(folder))
    if there is None:
        return 'the folder holds no numbered images'
    if there.template.format(wanted) == template.format(wanted):
        return (f'no such file, the folder holds {there}; check fps, timestamp_start, '
                'timestamp_end and start_index of the dataset')
    return (f'no such file, the folder holds {there}; set '
            f'filename_tmpl={there.template!r} and start_index={there.first} of the '
            'dataset')


def run_pipeline(pipeline: Callable[[dict], Any], info: dict, where: str,
                 fault_of: Callable[[dict], tuple[str, str] | None]) -> Any:
    """Run a pipeline on a sample; where it fails, say which file is to blame.

    Args:
        pipeline (Callable): The pipeline.
        info (dict): The sample.
        where (str): The sample's place in the annotation, for messages.
        fault_of (Callable): File and reason, if a file is why the sample fails.

    Raises:
        BadVideoError: If a file is to blame. Another error is raised as it is, with a
            note where it happened.
    """
    try:
        return pipeline(info)
    except Exception as error:
        fault = fault_of(info)
        if fault is None:
            if hasattr(error, 'add_note'):  # Python 3.11
                error.add_note(f'while reading {where}')
            raise
    raise BadVideoError(f'{fault[0]} cannot be read, it is wanted for {where}: '
                        f'{fault[1]}')


def frame_fault(info: dict) -> tuple[str, str] | None:
    """The first frame of a sample that cannot be read.

    Args:
        info (dict): The sample after its frames were chosen: ``frame_dir``,
            ``filename_tmpl``, ``frame_inds``, and ``offset`` if there is one.

    Returns:
        tuple, optional: The file and what is wrong; None where all can be read.
    """
    template = info['filename_tmpl']
    for number in np.unique(info['frame_inds']) + info.get('offset', 0):
        path = os.path.join(info['frame_dir'], template.format(number))
        if not os.path.isfile(path):
            return path, folder_fault(info['frame_dir'], template, int(number))
        if not os.path.getsize(path):
            return path, 'the file is empty (0 bytes); extract the frames anew'
        # as mmcv reads them
        with open(path, 'rb') as file:
            data = np.frombuffer(file.read(), np.uint8)
        if cv2.imdecode(data, cv2.IMREAD_COLOR) is None:
            return path, 'the file is no image; extract the frames anew'
    return None
