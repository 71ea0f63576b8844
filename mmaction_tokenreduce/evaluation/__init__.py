# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What a model costs: parameters and multiply-adds, in total and by part; time, memory
and the floor of the time. Metrics that mmaction2 lacks, registered in its METRICS."""
from .ava_metric import CheckedAVAMetric
from .complexity import (
    Complexity,
    Part,
    align_columns,
    count_complexity,
    recognizer_forward,
    recognizer_inputs,
)
from .epic_kitchens_metric import EpicKitchensMetric
from .input_shape import default_input_shape
from .machine import busy_warning, describe_machine, machine_line
from .matrix_products import MatrixProducts
from .peak_memory import peak_megabytes
from .timing import Spread, ratios, time_in_turns, time_shares
from .tube_metrics import FrameMAP, VideoMAP

__all__ = [
    'CheckedAVAMetric', 'Complexity', 'EpicKitchensMetric', 'FrameMAP',
    'MatrixProducts', 'Part', 'Spread', 'VideoMAP', 'align_columns', 'busy_warning',
    'count_complexity', 'default_input_shape', 'describe_machine', 'machine_line',
    'peak_megabytes', 'ratios', 'recognizer_forward', 'recognizer_inputs',
    'time_in_turns', 'time_shares'
]
