# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""AVA and AVA-Kinetics, and sets of their format, with annotations checked.

mmaction2's ``AVADataset`` trains on whatever a line says: a label 0 goes to its unused
column, a box in pixels leaves the picture, a timestamp outside of the video shows the
first or last frame. Here every such line is an error that names file, line and remedy.
Proposals are not needed (EVAD finds actors by itself); they may be given as before.
"""
import os
from typing import Any

from mmaction.datasets import AVADataset
from mmaction.datasets.ava_dataset import AVAKineticsDataset
from mmaction.registry import DATASETS
from mmengine.fileio import exists, isdir
from mmengine.logging import MMLogger

from .ava_annotations import Limits, read_excluded, read_label_map, read_rows
from .frame_folders import frame_fault, run_pipeline
from .video_dataset import dataset_advice, missing_list, video_fault


def check_custom_classes(custom_classes: Any, num_classes: Any,
                         label_file: Any) -> None:
    """Check a choice of classes before mmaction2 asserts it without a word.

    Args:
        custom_classes (list[int], optional): Labels that are used.
        num_classes (int): Classes plus one.
        label_file (str, optional): The label map.

    Raises:
        ValueError: If they do not fit each other.
    """
    if custom_classes is None:
        return
    if label_file is None:
        raise ValueError('custom_classes of the dataset needs label_file')
    if num_classes != len(custom_classes) + 1:
        raise ValueError(f'num_classes is {num_classes}; with custom_classes of '
                         f'{len(custom_classes)} labels it must be '
                         f'{len(custom_classes) + 1}, in dataset, model and metric')
    known = read_label_map(label_file)
    for label in custom_classes:
        if label not in known:
            raise ValueError(f'custom_classes has label {label}, which the label map '
                             f'{label_file} lacks')


class _Checked:
    """What `CheckedAVADataset` and `CheckedAVAKineticsDataset` share."""

    def __init__(self, *args: Any, count_frames: bool = False, hint: str | None = None,
                 **kwargs: Any) -> None:
        self.count_frames = count_frames
        self.hint = hint
        self._frame_counts: dict[str, int] = {}
        check_custom_classes(kwargs.get('custom_classes'),
                             kwargs.get('num_classes', 81), kwargs.get('label_file'))
        super().__init__(*args, **kwargs)

    def span_of(self, video_id: str) -> tuple[int, int]:
        """First timestamp of a video and the one after the last."""
        return self.timestamp_start, self.timestamp_end

    def load_data_list(self) -> list[dict]:
        """Check all lines, then read them as mmaction2 does.

        Returns:
            list[dict]: A keyframe each; ``line`` is that of its first box.
        """
        self._check_files()
        names = self.label_file and read_label_map(self.label_file)
        # of a choice of classes, num_classes bounds what it becomes
        bound = self.num_classes if self.custom_classes is None else max(names) + 1
        rows = read_rows(self.ann_file, Limits(
            bound, frozenset(names) if names else None, self.span_of))
        lines: dict[tuple[str, int], int] = {}
        for row in rows:
            lines.setdefault(row.key, row.line)
        data_list = super().load_data_list()
        if not data_list:
            raise ValueError(f'annotation file {self.ann_file} has no label of '
                             f'custom_classes={self.custom_classes[1:]}')
        for info in data_list:
            info['line'] = lines[info['video_id'], info['timestamp']]
        return data_list

    def _check_files(self) -> None:
        if not exists(self.ann_file):
            raise missing_list(self.ann_file, self.test_mode, self.hint)
        for key in ('exclude_file', 'label_file'):
            path = getattr(self, key)
            if path is not None and not exists(path):
                raise FileNotFoundError(f'{path} not found ({key} of the dataset): '
                                        + self._advice(path, key))
        folder = self.data_prefix.get('img')
        if folder and '://' not in folder and not isdir(folder):
            raise FileNotFoundError(
                f'folder of the frames {folder} not found (data_prefix.img of the '
                'dataset): ' + self._advice(folder, 'data_prefix.img'))

    def _advice(self, path: str, key: str) -> str:
        return dataset_advice(path, key, self.test_mode, self.hint)

    def filter_data(self) -> list[dict]:
        """Leave out the keyframes of the exclude file.

        Returns:
            list[dict]: The others.
        """
        if self.exclude_file is None:
            return self.data_list
        excluded = read_excluded(self.exclude_file)
        kept = [info for info in self.data_list
                if (info['video_id'], info['timestamp']) not in excluded]
        MMLogger.get_current_instance().info(
            f'{len(kept)} of {len(self.data_list)} keyframes are not in '
            f'{self.exclude_file}')
        if not kept:
            raise ValueError(
                f'exclude file {self.exclude_file} names every keyframe of '
                f'{self.ann_file}: it must list the keyframes to leave out')
        return kept

    def get_data_info(self, idx: int) -> dict:
        """The annotation of a keyframe.

        Args:
            idx (int): Its index.

        Returns:
            dict: As mmaction2's, with ``total_frames`` where ``count_frames`` is set.
        """
        info = super().get_data_info(idx)
        if self.count_frames and 'frame_dir' in info:
            folder = info['frame_dir']
            if folder not in self._frame_counts:
                self._frame_counts[folder] = (
                    len(os.listdir(folder)) if os.path.isdir(folder) else 0)
            # none: the pipeline then says which file it wants
            info['total_frames'] = self._frame_counts[folder] or None
        return info

    def prepare_data(self, idx: int) -> Any:
        """Run the pipeline on a keyframe.

        Args:
            idx (int): Its index.

        Returns:
            Any: What the pipeline returns.
        """
        info = self.get_data_info(idx)
        where = (f'timestamp {info["timestamp"]} of video {info["video_id"]} in '
                 f'{self.ann_file} line {info["line"]}')
        return run_pipeline(self.pipeline, info, where, _fault)


def _fault(info: dict) -> tuple[str, str] | None:
    """File and reason, if a file is why the pipeline failed on a sample."""
    if 'filename' in info:
        if '://' in info['filename']:
            return None
        reason = video_fault(info['filename'])
        return reason and (f'video {info["filename"]}', reason)
    if 'frame_inds' not in info or '://' in info['frame_dir'] or (
            info['modality'] != 'RGB'):
        return None
    fault = frame_fault(info)
    return fault and (f'frame {fault[0]}', fault[1])


@DATASETS.register_module()
class CheckedAVADataset(_Checked, AVADataset):
    """AVA, or a set of its format, each fault reported by file and line.

    Args:
        *args: As for mmaction2's ``AVADataset``.
        count_frames (bool): Take the files in a video's folder as its length, rather
            than ``(timestamp_end - timestamp_start) * fps``, so that clips stop at its
            last frame. Frames only. Defaults to False.
        hint (str, optional): How to get this dataset, for the message where it is not
            there. Defaults to the page of MMAction2's documentation.
        **kwargs: As for ``AVADataset``. With ``label_file`` labels must be in that
            map; without it ``num_classes`` alone bounds them, as AVA wants it, whose
            map names 60 of its 80 labels.

    Raises:
        FileNotFoundError: If a file or the folder of the frames does not exist.
        ValueError: If a line of annotations, label map or exclude file is faulty, no
            keyframe is left, or ``custom_classes`` does not fit.
    """


@DATASETS.register_module()
class CheckedAVAKineticsDataset(_Checked, AVAKineticsDataset):
    """AVA-Kinetics as mmaction2's scripts prepare it, with the checks of
    `CheckedAVADataset`.

    Videos named ``ID_START_END`` run from START to END, others from
    ``timestamp_start`` to ``timestamp_end``.

    Args:
        *args: As for mmaction2's ``AVAKineticsDataset``.
        start_index (int): Number of the first frame's file. Defaults to 1, as the
            scripts number them (mmaction2's default is 0, one frame early).
        **kwargs: As for ``AVAKineticsDataset`` and `CheckedAVADataset`.

    Raises:
        FileNotFoundError: As `CheckedAVADataset`.
        ValueError: As `CheckedAVADataset`.
    """

    def __init__(self, *args: Any, start_index: int = 1, **kwargs: Any) -> None:
        super().__init__(*args, start_index=start_index, **kwargs)

    def span_of(self, video_id: str) -> tuple[int, int]:
        """First timestamp of a video and the one after the last."""
        return self.get_timestamp(video_id)
