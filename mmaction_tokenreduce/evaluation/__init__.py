# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What a model costs: parameters and multiply-adds, in total and by part. Metrics that
mmaction2 lacks, registered in its METRICS."""
from .ava_metric import CheckedAVAMetric
from .complexity import Complexity, Part, count_complexity, recognizer_forward
from .epic_kitchens_metric import EpicKitchensMetric
from .input_shape import default_input_shape
from .tube_metrics import FrameMAP, VideoMAP

__all__ = [
    'CheckedAVAMetric', 'Complexity', 'EpicKitchensMetric', 'FrameMAP', 'Part',
    'VideoMAP', 'count_complexity', 'default_input_shape', 'recognizer_forward'
]
