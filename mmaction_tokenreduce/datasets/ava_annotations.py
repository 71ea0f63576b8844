# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Lines of AVA's annotation files, read with checks.

Three files: annotations (``video_id,timestamp,x1,y1,x2,y2,label,entity_id``), label map
(pbtxt), excluded timestamps (``video_id,timestamp``). mmaction2 reads them without a
check, and what it misreads ends as mAP 0: a label map of another indentation is empty
to it, label 0 is its unused column, a timestamp outside of the video becomes the
video's first or last frame. `parse_row` and its like say what is wrong with a line and
what to do; the datasets raise it, ``tools/data/check_ava.py`` collects it.
"""
import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from mmengine.fileio import list_from_file

COLUMNS = ('video_id', 'timestamp', 'x1', 'y1', 'x2', 'y2', 'label', 'entity_id')
_MAP_LINE = re.compile(r'\s*(name|id|label_id)\s*:')
# as mmaction2's read_labelmap wants them
_NAME_LINE = re.compile(r'  name:[^"]*"([^"]*)"')
_ID_LINE = re.compile(r'  (?:id|label_id):.* (-?\d+)\s*$')

# Faults that call for a question before the line is blamed.
BAD_COLUMNS = 'columns'
BAD_TIMESTAMP = 'timestamp'
OUTSIDE_VIDEO = 'timestamp outside of the video'
BAD_LABEL = 'label'
LABEL_ZERO = 'label below 1'
LABEL_TOO_LARGE = 'label too large'
UNMAPPED_LABEL = 'label outside of the label map'
BAD_BOX = 'box'
ABSOLUTE_BOX = 'box in pixels'
OUTSIDE_FRAME = 'box outside of the frame'
EMPTY_BOX = 'empty box'


class AnnotationFault(ValueError):
    """What is wrong with a line and what to do; `kind` is one of the names above."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class AvaRow(NamedTuple):
    """A line of an annotation file: one label of one box."""

    line: int
    video_id: str
    timestamp: int
    box: tuple[float, float, float, float]
    label: int
    entity_id: int

    @property
    def key(self) -> tuple[str, int]:
        """The keyframe."""
        return self.video_id, self.timestamp


class Limits(NamedTuple):
    """What a line may hold.

    Attributes:
        num_classes (int): Classes plus one, as the dataset counts.
        class_ids (frozenset[int], optional): Labels of the label map.
        span (Callable): Gives first and last timestamp of a video, the last one
            excluded, by its identifier.
    """

    num_classes: int
    class_ids: frozenset[int] | None
    span: Callable[[str], tuple[int, int]]


def read_lines(path: str) -> list[str]:
    """Lines of a local or remote file; a byte order mark stays, as for mmaction2."""
    return list_from_file(path)


def parse_row(text: str, line: int, limits: Limits) -> AvaRow:
    """Read a line of an annotation file.

    Args:
        text (str): The line.
        line (int): Its number, from 1.
        limits (Limits): What it may hold.

    Returns:
        AvaRow: Its contents.

    Raises:
        AnnotationFault: For the first fault.
    """
    cells = text.strip().split(',')
    if len(cells) != len(COLUMNS):
        raise AnnotationFault(BAD_COLUMNS, _column_fault(cells))
    row = AvaRow(line, cells[0], _whole(cells[1], 'timestamp', BAD_TIMESTAMP),
                 _box(cells[2:6]), _whole(cells[6], 'label', BAD_LABEL),
                 _whole(cells[7], 'entity_id', BAD_COLUMNS))
    if not row.video_id or row.video_id != row.video_id.strip('\ufeff '):
        raise AnnotationFault(BAD_COLUMNS, f'has video_id {row.video_id!r}, must be '
                              'the name of a folder or file; delete blanks and byte '
                              'order marks')
    check_box(row.box)
    check_label(row.label, limits)
    start, end = limits.span(row.video_id)
    if not start <= row.timestamp < end:
        raise AnnotationFault(
            OUTSIDE_VIDEO, f'has timestamp {row.timestamp}, but the video is taken to '
            f'run from {start} to {end}; set timestamp_start and timestamp_end of the '
            "dataset to your videos' (AVA's 900 and 1800 are the defaults)")
    return row


def _column_fault(cells: list[str]) -> str:
    if cells == ['']:
        return 'is blank; delete it'
    wanted = f'must be the 8 columns {",".join(COLUMNS)}'
    if len(cells) == 7:
        return (f'has 7 columns, {wanted}; number the actors of each video in a last '
                'column, or put 0 there')
    return f'has {len(cells)} columns, {wanted}, without commas in them'


def _whole(text: str, column: str, kind: str) -> int:
    try:
        return int(text)
    except ValueError:
        pass
    if text.strip() == column:
        raise AnnotationFault(BAD_COLUMNS, 'is a line of headings; delete it')
    advice = dict(timestamp='round it and move the box to that frame, or count frames '
                  'with fps=1', label='write the number that the name has in the label '
                  'map', entity_id='number the actors of each video')[column]
    raise AnnotationFault(kind, f'has {column} {text!r}, must be a whole number; '
                          + advice)


def _box(cells: list[str]) -> tuple[float, float, float, float]:
    try:
        return tuple(map(float, cells))
    except ValueError:
        pass
    if tuple(cell.strip() for cell in cells) == COLUMNS[2:6]:
        raise AnnotationFault(BAD_COLUMNS, 'is a line of headings; delete it')
    if not any(cells):
        raise AnnotationFault(BAD_COLUMNS, 'has no box; delete it, mmaction2 reads '
                              'keyframes with boxes only')
    raise AnnotationFault(BAD_BOX, f'has box {",".join(cells)}, must be four numbers')


def check_box(box: tuple[float, float, float, float]) -> None:
    """Raise an `AnnotationFault` unless it is x1, y1, x2, y2 within 0 to 1."""
    x1, y1, x2, y2 = box
    shown = ','.join(f'{value:g}' for value in box)
    if not all(-1e9 < value < 1e9 for value in box):  # no infinity, no NaN
        raise AnnotationFault(BAD_BOX, f'has box {shown}, must be four numbers')
    if max(box) > 2:
        raise AnnotationFault(
            ABSOLUTE_BOX, f'has box {shown} in pixels, must be shares from 0 to 1; '
            'divide x by the width and y by the height of the frame')
    if min(box) < 0 or max(box) > 1:
        raise AnnotationFault(OUTSIDE_FRAME, f'has box {shown}, must be within 0 to 1; '
                              'clip it to the frame')
    if x2 <= x1 or y2 <= y1:
        raise AnnotationFault(
            EMPTY_BOX, f'has box {shown} with x2 <= x1 or y2 <= y1, must be left, top, '
            'right, bottom; if the last two are width and height, add the first two '
            'to them, and delete boxes without area')


def check_label(label: int, limits: Limits) -> None:
    """Raise an `AnnotationFault` unless it is a class of the label map."""
    if label < 1:
        raise AnnotationFault(
            LABEL_ZERO, f'has label {label}, must count from 1 (column 0 is no class '
            'to mmaction2); add 1 to all labels, and to the ids of the label map')
    if label >= limits.num_classes:
        raise AnnotationFault(
            LABEL_TOO_LARGE, f'has label {label}, must be 1 to '
            f'{limits.num_classes - 1}, as num_classes={limits.num_classes}; '
            'num_classes of dataset, model and metric is the largest label plus 1')
    if limits.class_ids is not None and label not in limits.class_ids:
        raise AnnotationFault(
            UNMAPPED_LABEL, f'has label {label}, which the label map lacks; add it to '
            'the map, or delete the line')


def read_rows(path: str, limits: Limits) -> list[AvaRow]:
    """Read an annotation file.

    Args:
        path (str): The file.
        limits (Limits): What its lines may hold.

    Returns:
        list[AvaRow]: Its lines.

    Raises:
        ValueError: For the first faulty line; the message names file and line.
    """
    rows = []
    for line, text in enumerate(read_lines(path), 1):
        try:
            rows.append(parse_row(text, line, limits))
        except AnnotationFault as fault:
            raise ValueError(f'annotation file {path} line {line} {fault}; '
                             f'tools/data/check_ava.py {path} finds all such lines'
                             ) from None
    if not rows:
        raise ValueError(f'annotation file {path} (ann_file of the dataset) has no '
                         f'lines, it needs {",".join(COLUMNS)}')
    return rows


def parse_excluded(text: str) -> tuple[str, int]:
    """Read a line of a list of excluded timestamps.

    Args:
        text (str): The line.

    Returns:
        tuple: Video and timestamp.

    Raises:
        AnnotationFault: If it is none.
    """
    cells = text.strip().split(',')
    if len(cells) != 2:
        what = 'is blank' if cells == [''] else f'has {len(cells)} columns'
        raise AnnotationFault(BAD_COLUMNS,
                              f'{what}, must be video_id,timestamp; mmaction2 stops at '
                              'such a line')
    return cells[0], _whole(cells[1], 'timestamp', BAD_TIMESTAMP)


def read_excluded(path: str) -> dict[tuple[str, int], int]:
    """Read a list of excluded timestamps.

    Args:
        path (str): The file.

    Returns:
        dict: Line number by (video, timestamp).

    Raises:
        ValueError: For a faulty line; the message names file and line.
    """
    excluded = {}
    for line, text in enumerate(read_lines(path), 1):
        try:
            excluded[parse_excluded(text)] = line
        except AnnotationFault as fault:
            raise ValueError(f'exclude file {path} line {line} {fault}') from None
    return excluded


def label_map_items(lines: Iterable[str]) -> Iterator[tuple[int, int, str]]:
    """Line, id and name of each item of a label map, as mmaction2 reads it.

    Args:
        lines (Iterable[str]): The file's.

    Yields:
        tuple: In the order of the file.

    Raises:
        AnnotationFault: For a line that mmaction2 passes over or cannot read, or an
            item without a name, an id below 1 or one that comes twice; the message
            names the line.
    """
    name, seen = None, {}
    for line, text in enumerate(lines, 1):
        if not _MAP_LINE.match(text):
            continue
        named, numbered = _NAME_LINE.match(text), _ID_LINE.match(text)
        if named:
            name = named[1]
            continue
        where = f'line {line}: {text.strip()!r}'
        if not numbered:
            raise AnnotationFault(
                'label map', f'{where} is not read by mmaction2, which wants lines of '
                'exactly `  name: "NAME"` and `  id: NUMBER`, two blanks in front; '
                'write them so')
        number = int(numbered[1])
        if name is None:
            raise AnnotationFault('label map', f'{where} has no name before it; put '
                                  '`  name: "NAME"` in front of each id')
        if number < 1:
            raise AnnotationFault('label map', f'{where} must count from 1; add 1 to '
                                  'all ids, and to the labels of the annotations')
        if number in seen:
            raise AnnotationFault('label map', f'{where} has the id of line '
                                  f'{seen[number]}; each class needs its own')
        seen[number] = line
        yield line, number, name
        name = None


def read_label_map(path: str) -> dict[int, str]:
    """Read a label map.

    Args:
        path (str): A pbtxt file.

    Returns:
        dict[int, str]: Names by label.

    Raises:
        ValueError: If it is none, or not one that mmaction2 reads; the message names
            file and line.
    """
    try:
        names = {number: name
                 for _, number, name in label_map_items(read_lines(path))}
    except AnnotationFault as fault:
        raise ValueError(f'label map {path} {fault}') from None
    if not names:
        raise ValueError(f'label map {path} has no classes, it needs items of lines '
                         '`  name: "NAME"` and `  id: NUMBER`')
    return names
