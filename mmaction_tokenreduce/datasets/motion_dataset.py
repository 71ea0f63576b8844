# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Videos with motion: pipelines checked, repeated augmentation from one decode.

Repeated augmentation: Hoffer et al. 2020, arXiv:1901.09335. mmaction2's
RepeatAugDataset takes decord pipelines only.
"""
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from mmaction.datasets import transforms as mm
from mmaction.registry import DATASETS
from mmengine.dataset import Compose

from .transforms import FollowMotion, FormatMotion, MotionDecode, MotionInit
from .transforms.follow import FOLLOWED, UNMOVED
from .video_dataset import CheckedVideoDataset

DECODERS = (MotionDecode, mm.DecordDecode, mm.PyAVDecode, mm.OpenCVDecode)
# what may stand between MotionDecode and FormatMotion outside of FollowMotion
_HARMLESS = (FollowMotion, *UNMOVED)


class RepeatedPipeline:
    """A pipeline that gives several results of one decode.

    Each result has frames of its own draw, as in RepeatAugDataset; the frames of all
    are decoded in one pass.

    Args:
        transforms (Sequence[Callable]): One that opens the video, others that draw
            frames, a decoder, and the rest.
        repeats (int): How many results.

    Raises:
        ValueError: If there is no decoder in the place for it.
    """

    def __init__(self, transforms: Sequence[Callable], repeats: int) -> None:
        places = [at for at, transform in enumerate(transforms)
                  if isinstance(transform, DECODERS)]
        if not places or places[0] < 2:
            names = ', '.join(kind.__name__ for kind in DECODERS)
            raise ValueError('num_repeats needs a pipeline that opens a video, draws '
                             f'frames and decodes them with one of {names}')
        self.open = transforms[0]
        self.draw = Compose(list(transforms[1:places[0]]))
        self.decode = transforms[places[0]]
        self.rest = Compose(list(transforms[places[0] + 1:]))
        self.repeats = repeats

    def __call__(self, info: dict) -> list[Any] | None:
        """Run it.

        Args:
            info (dict): The sample.

        Returns:
            list, optional: A result for each repeat; None where a transform gave up.
        """
        info = self.open(info)
        reader = info.pop('video_reader')
        drawn = [self.draw(deepcopy(info)) for _ in range(self.repeats)]
        if any(sample is None for sample in drawn):
            return None
        inds = [np.asarray(sample['frame_inds']).ravel() for sample in drawn]
        decoded = self.decode(dict(drawn[0], video_reader=reader,
                                   frame_inds=np.concatenate(inds)))
        frames = {key: decoded.pop(key) for key in ('imgs', 'motion') if key in decoded}
        results, start = [], 0
        for sample, own in zip(drawn, inds, strict=True):
            some = slice(start, start + len(own))
            start = some.stop
            sample = dict(deepcopy(decoded), **{
                key: value for key, value in sample.items() if key not in decoded},
                frame_inds=own)
            sample.update({key: value[some] for key, value in frames.items()})
            results.append(self.rest(sample))
        return None if any(sample is None for sample in results) else results


@DATASETS.register_module()
class MotionVideoDataset(CheckedVideoDataset):
    """`CheckedVideoDataset` for pipelines with motion.

    When it is built it refuses a pipeline in which a transform moves frames without
    their displacement fields. With ``num_repeats`` a sample is decoded once for all
    its repeats, whatever the decoder (`MotionDecode` or one of mmaction2's); collate
    with ``repeat_pseudo_collate``.

    Args:
        *args: As for `CheckedVideoDataset`.
        **kwargs: As for `CheckedVideoDataset`.

    Raises:
        ValueError: As `CheckedVideoDataset`, and for such a pipeline.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        check_pipeline(self.pipeline.transforms)
        if self.num_repeats is not None:
            self.pipeline = RepeatedPipeline(self.pipeline.transforms, self.num_repeats)

    def prepare_data(self, idx: int) -> Any:
        """Run the pipeline on a sample.

        Args:
            idx (int): Index of the sample.

        Returns:
            Any: What the pipeline returns, or a list of ``num_repeats`` of that; None
                for a bad video that is skipped.
        """
        return self._run_pipeline(idx)


def check_pipeline(transforms: Sequence[Callable]) -> None:
    """See that fields follow their frames all the way.

    Args:
        transforms (Sequence[Callable]): A built pipeline.

    Raises:
        ValueError: If a transform between MotionDecode and FormatMotion is none that is
            known to leave places alone, or one after FormatMotion moves the frames.
    """
    kinds = [type(transform) for transform in transforms]
    if MotionDecode not in kinds:
        return
    start = kinds.index(MotionDecode)
    if MotionInit not in kinds[:start]:
        raise ValueError('MotionDecode needs MotionInit before it')
    ends = [kind for kind in (FormatMotion, mm.FormatShape, mm.PackActionInputs)
            if kind in kinds]
    end = kinds.index(ends[0]) if ends else len(kinds)
    for at, kind in enumerate(kinds[start + 1:], start + 1):
        if kind in FOLLOWED or (at < end and kind not in _HARMLESS):
            names = ', '.join(allowed.__name__ for allowed in _HARMLESS)
            raise ValueError(
                f'{kind.__name__} of the pipeline would part the frames from their '
                'displacement fields: transforms that move the frames belong into '
                f'FollowMotion(transforms=[...]); between MotionDecode and '
                f'FormatMotion may stand {names}')
