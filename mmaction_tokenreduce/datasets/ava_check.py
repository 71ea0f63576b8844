# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""All that is wrong with a set of AVA's format, and what to do about it.

The datasets stop at the first fault; this collects them, and looks for what no single
line shows: repeated lines, boxes of an actor that nearly agree, lists of excluded
timestamps that exclude nothing, frames that do not fit the timestamps.
"""
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from .ava_annotations import (
    OUTSIDE_VIDEO,
    AnnotationFault,
    AvaRow,
    Limits,
    parse_excluded,
    parse_row,
    read_label_map,
    read_lines,
)
from .frame_folders import Numbering, numbering

NEARLY_EQUAL = 0.9  # overlap of two boxes that should be one
OFF = 0.02  # share by which a video's length may differ from what it is taken to be


class Finding(NamedTuple):
    """The first place with a fault; `count` places have it."""

    error: bool
    place: str
    text: str
    count: int


@dataclass
class Settings:
    """What is checked; the dataset's arguments, unless described.

    Attributes:
        ann_file (str): Annotations.
        label_file (str, optional): Label map.
        exclude_file (str, optional): Excluded timestamps.
        frames (str, optional): Folder with a folder of frames for each video.
        num_classes (int, optional): The largest label of the map plus 1 unless given.
        fps (int): Frames a second.
        timestamp_start (int): First timestamp.
        timestamp_end (int): The one after the last.
        filename_tmpl (str, optional): As the first folder has it unless given.
        start_index (int, optional): The same.
        clip_len (int): Frames of a clip.
        frame_interval (int): From one to the next.
    """

    ann_file: str
    label_file: str | None = None
    exclude_file: str | None = None
    frames: str | None = None
    num_classes: int | None = None
    fps: int = 30
    timestamp_start: int = 900
    timestamp_end: int = 1800
    filename_tmpl: str | None = None
    start_index: int | None = None
    clip_len: int = 16
    frame_interval: int = 4

    @property
    def seconds(self) -> int:
        """How long a video is taken to be."""
        return self.timestamp_end - self.timestamp_start


@dataclass
class Check:
    """A check of one set; run its methods in their order.

    Attributes:
        settings (Settings): What is checked. What was not given is filled in.
        names (dict): Classes by label.
        rows (list[AvaRow]): Lines without a fault of their own.
        excluded (set): Excluded keyframes.
        findings (dict): By kind.
        counted (bool): Whether videos differ in length.
    """

    settings: Settings
    names: dict[int, str] = field(default_factory=dict)
    rows: list[AvaRow] = field(default_factory=list)
    excluded: set[tuple[str, int]] = field(default_factory=set)
    findings: dict[str, Finding] = field(default_factory=dict)
    counted: bool = False

    def note(self, kind: str, place: str, text: str, error: bool = True) -> None:
        """Remember a fault; of each kind the first is told, the others counted."""
        first = self.findings.get(kind)
        self.findings[kind] = (Finding(error, place, text, 1) if first is None
                               else first._replace(count=first.count + 1))

    @property
    def failed(self) -> bool:
        """Whether anything must be mended."""
        return any(finding.error for finding in self.findings.values())

    def check_label_map(self) -> None:
        """Read the label map."""
        path = self.settings.label_file
        if path is None:
            return
        try:
            self.names = read_label_map(path)
        except ValueError as error:
            self.note('label map', '', str(error))
            return
        if self.settings.num_classes is None:
            self.settings.num_classes = max(self.names) + 1
        elif self.settings.num_classes <= max(self.names):
            self.note('num_classes', f'label map {path}',
                      f'has label {max(self.names)}, but num_classes is '
                      f'{self.settings.num_classes}; set it to {max(self.names) + 1} '
                      'in dataset, model and metric')

    def check_lines(self, lines: Iterable[str]) -> None:
        """Check each line of the annotations.

        Args:
            lines (Iterable[str]): The file's, maybe with a progress bar around them.
        """
        settings = self.settings
        span = settings.timestamp_start, settings.timestamp_end
        limits = Limits(settings.num_classes or 10**6, None, lambda video: span)
        first: dict[tuple, int] = {}
        outside: list[int] = []
        for number, text in enumerate(lines, 1):
            place = f'{settings.ann_file} line {number}'
            try:
                row = parse_row(text, number, limits)
            except AnnotationFault as fault:
                if fault.kind == OUTSIDE_VIDEO:
                    outside.append(int(text.split(',')[1]))
                self.note(fault.kind, place, str(fault))
                continue
            if self.names and row.label not in self.names:
                # AVA evaluates 60 of its 80 classes
                self.note('unmapped label', place, f'has label {row.label}, which '
                          f'{settings.label_file} lacks: it is trained and never '
                          'evaluated; add it to the map unless this is meant',
                          error=False)
            before = first.setdefault(row[1:5], number)
            if before != number:
                self.note('repeated line', place,
                          f'repeats line {before}; delete it, the metric counts it as '
                          'another actor, who is never found')
                continue
            self.rows.append(row)
        if outside:
            found = self.findings[OUTSIDE_VIDEO]
            self.findings[OUTSIDE_VIDEO] = found._replace(
                text=f'{found.text}; those outside run from {min(outside)} to '
                f'{max(outside)}')
        if not self.rows and not self.findings:
            self.note('empty', settings.ann_file, 'has no lines')

    def check_boxes(self) -> None:
        """Look for boxes of a keyframe that are nearly, but not quite, the same."""
        frames: dict[tuple, dict[tuple, int]] = {}
        for row in self.rows:
            frames.setdefault(row.key, {}).setdefault(row.box, row.line)
        for found in frames.values():
            if len(found) < 2:
                continue
            lines = list(found.values())
            boxes = np.array(list(found))
            low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
            high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
            shared = (high - low).clip(0).prod(-1)
            areas = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
            overlap = shared / (areas[:, None] + areas - shared)
            for one, other in np.argwhere(np.triu(overlap > NEARLY_EQUAL, 1)):
                self.note('nearly equal boxes',
                          f'{self.settings.ann_file} line {lines[other]}',
                          f'has nearly the box of line {lines[one]}; give all labels '
                          'of an actor exactly the same box, or mmaction2 takes them '
                          'for two actors', error=False)

    def check_excluded(self) -> None:
        """Check the list of excluded timestamps."""
        path = self.settings.exclude_file
        if path is None:
            return
        for number, text in enumerate(read_lines(path), 1):
            try:
                self.excluded.add(parse_excluded(text))
            except AnnotationFault as fault:
                self.note('excluded line', f'{path} line {number}', str(fault))
        keys = {row.key for row in self.rows}
        left = keys - self.excluded
        if keys and not left:
            self.note('all excluded', path, 'names every keyframe of '
                      f'{self.settings.ann_file}; it must list those to leave out')
        elif self.excluded and len(left) == len(keys):
            self.note('none excluded', path, 'names no keyframe of '
                      f'{self.settings.ann_file}; write video_id and timestamp as they '
                      'stand there, or leave the list out', error=False)

    def check_classes(self) -> None:
        """Look for classes without a box."""
        used = {row.label for row in self.rows}
        for label, name in self.names.items():
            if label not in used:
                self.note('class without a box', self.settings.label_file,
                          f'has class {label} ({name}), of which there is no box; it '
                          'has no average precision', error=False)

    def check_frames(self, videos: Iterable[str]) -> None:
        """Compare the annotations with the frames on disk.

        Args:
            videos (Iterable[str]): `videos`, maybe with a progress bar around them.
        """
        found: dict[str, tuple[set[str], Numbering]] = {}
        lines: dict[str, int] = {}
        for row in self.rows:
            lines.setdefault(row.video_id, row.line)
        for video in videos:
            folder = os.path.join(self.settings.frames, video)
            place = f'{self.settings.ann_file} line {lines[video]}'
            if not os.path.isdir(folder):
                self.note('folder', place, f'has video {video}, but there is no folder '
                          f'{folder}; extract its frames, or write video_id as the '
                          'folder is called, without a suffix')
                continue
            files = set(os.listdir(folder))
            there = numbering(files)
            if there is None:
                self.note('no frames', folder, 'holds no numbered images; extract the '
                          'frames anew')
                continue
            self._check_numbering(folder, there)
            found[video] = files, there
        self._check_lengths({video: there for video, (_, there) in found.items()})
        self._check_clips(found)

    def videos(self) -> list[str]:
        """Annotated videos."""
        return list(dict.fromkeys(row.video_id for row in self.rows))

    def _check_numbering(self, folder: str, there: Numbering) -> None:
        settings = self.settings
        if settings.filename_tmpl is None:
            settings.filename_tmpl = there.template
        if settings.start_index is None:
            settings.start_index = there.first
        same = there.template.format(there.first) == (
            settings.filename_tmpl.format(there.first))
        if not same or there.first != settings.start_index:
            self.note('numbering', folder, f'holds {there}, but filename_tmpl is '
                      f'{settings.filename_tmpl!r} and start_index '
                      f'{settings.start_index}; set filename_tmpl={there.template!r} '
                      f'and start_index={there.first}, or name all alike')
        if there.gaps:
            self.note('gaps', folder, f'holds {there}; extract the frames anew')

    def _check_lengths(self, found: dict[str, Numbering]) -> None:
        """Find out whether fps and timestamps fit the number of frames."""
        if not found or self.settings.seconds < 1:
            return
        rates = {video: there.count / self.settings.seconds
                 for video, there in found.items()}
        fps = self.settings.fps
        off = {video: rate for video, rate in rates.items()
               if abs(rate / fps - 1) > OFF}
        if not off:
            return
        video, rate = next(iter(off.items()))
        place = os.path.join(self.settings.frames, video)
        count = found[video].count
        if max(rates.values()) > min(rates.values()) * (1 + 2 * OFF):
            self.counted = True
            self.note('lengths', place, f'holds {count} frames where others hold '
                      f'{max(there.count for there in found.values())}; videos differ '
                      'in length, so set count_frames=True of CheckedAVADataset',
                      error=False)
            return
        self.note('fps', place, f'holds {count} frames for the '
                  f'{self.settings.seconds} seconds from '
                  f'{self.settings.timestamp_start} to {self.settings.timestamp_end}, '
                  f'which are {rate:.4g} a second, but fps is {fps}; set '
                  f'fps={round(rate)}, or extract the frames with ffmpeg -r {fps}, or '
                  'set timestamp_end='
                  f'{self.settings.timestamp_start + round(count / fps)}')

    def _check_clips(self, found: dict[str, tuple[set[str], Numbering]]) -> None:
        """Look for frames of clips that are not there."""
        settings = self.settings
        steps = (np.arange(settings.clip_len) - settings.clip_len // 2)
        for key, line in {row.key: row.line for row in reversed(self.rows)}.items():
            video, timestamp = key
            if key in self.excluded or video not in found:
                continue
            files, there = found[video]
            total = there.count if self.counted else settings.seconds * settings.fps
            centre = settings.fps * (timestamp - settings.timestamp_start)
            place = f'{settings.ann_file} line {line}'
            if centre >= total:
                self.note('keyframe beyond the end', place, f'has timestamp '
                          f'{timestamp}, which is frame {centre} of video {video}, but '
                          f'it has {total}; check fps and timestamp_start')
                continue
            frames = (centre + steps * settings.frame_interval).clip(0, total - 1)
            names = [settings.filename_tmpl.format(number)
                     for number in frames + settings.start_index]
            missing = [name for name in names if name not in files]
            if missing:
                self.note('missing frame', place,
                          f'wants {missing[0]} of video {video}, which is missing from '
                          f'its folder of {there}; extract the frames anew, or check '
                          'fps, timestamp_start and timestamp_end')
                continue
            path = os.path.join(settings.frames, video,
                                names[settings.clip_len // 2])
            if not os.path.getsize(path):
                self.note('empty frame', place, f'wants {path}, which is empty (0 '
                          'bytes); extract the frames anew')

    def summary(self) -> list[str]:
        """What is in the set, and the arguments that fit it."""
        settings = self.settings
        rows = [row for row in self.rows if row.key not in self.excluded]
        labels = Counter(row.label for row in rows)
        boxes = len({(row.key, row.box) for row in rows})
        classes = settings.num_classes or max(labels, default=0) + 1
        shown = [f'{len({row.video_id for row in rows})} videos, '
                 f'{len({row.key for row in rows})} keyframes (clips), {boxes} boxes, '
                 f'{len(rows)} labels', 'labels by class:']
        shown += [f'  {label:4} {self.names.get(label, "?"):30} {count}'
                  for label, count in sorted(labels.items())]
        files = {key: getattr(settings, key) for key in (
            'ann_file', 'exclude_file', 'label_file')}
        numbers = dict(num_classes=classes)
        dataset = dict(**files, data_prefix=dict(img=settings.frames), **numbers,
                       fps=settings.fps, timestamp_start=settings.timestamp_start,
                       timestamp_end=settings.timestamp_end)
        if settings.filename_tmpl is not None:
            dataset.update(filename_tmpl=settings.filename_tmpl,
                           start_index=settings.start_index)
        if self.counted:
            dataset['count_frames'] = True
        for kind, arguments in (('CheckedAVADataset', dataset),
                                ('CheckedAVAMetric', {**files, **numbers})):
            shown.append(f'dict(type={kind!r},')
            shown += [f'     {key}={value!r},' for key, value in arguments.items()]
            shown[-1] = shown[-1][:-1] + ')'
        return shown
