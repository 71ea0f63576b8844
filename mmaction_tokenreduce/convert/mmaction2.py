# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""mmaction2's own checkpoints of a host: the names are ours already.

What conversion adds: every weight is checked against the model, and what else mmengine
keeps in a checkpoint (optimiser, message hub) stays behind. A recogniser's backbone can
also start a detector.
"""
import re
from collections.abc import Mapping

from torch import Tensor

from .state_dict import (
    Conversion,
    Rule,
    Shapes,
    Target,
    convert_state_dict,
    target_shapes,
)

__all__ = ['convert_mmaction2']

_SOURCE = 'mmaction2'
_WRAPPED = r'(?:module\.)?'
_NORM = r'backbone\.(?:fc_)?norm\.'


def convert_mmaction2(state_dict: Mapping[str, Tensor], target: Target) -> Conversion:
    """Check the weights of an mmaction2 model against ours.

    Where the checkpoint is a recogniser's and the model a detector, the backbone alone
    is converted: the classifier is dropped, the detector's parts keep their initial
    values and are left out, and the norm after a VideoMAE ViT's last block becomes the
    one that the model has (``fc_norm`` after the mean token in recognisers, ``norm`` in
    mmaction2's detectors).

    Args:
        state_dict: mmaction2's names to tensors, with ``module.`` in front where a
            wrapped model was saved.
        target: A recogniser or detector around one of our hosts, or its names and
            shapes.

    Raises:
        ValueError: If a key is unknown, missing or misshapen.
    """
    shapes = target_shapes(target)
    rules, initial = [Rule(rf'{_WRAPPED}(.+)', r'\1')], None
    head = r'cls_head\.'
    if _holds(state_dict, _WRAPPED + head) and not _holds(shapes, head):
        rules = [Rule(rf'{_WRAPPED}{head}.+', None, 'the model classifies no clips'),
                 *_norm_rules(shapes), *rules]
        initial = {r'(?!backbone\.).+': 'the checkpoint is that of a recogniser'}
    return convert_state_dict(state_dict, rules, shapes, _SOURCE, initial)


def _norm_rules(shapes: Shapes) -> list[Rule]:
    """The norm after a VideoMAE ViT's last block, by the name that the model has."""
    norms = {match[0] for name in shapes if (match := re.match(_NORM, name))}
    return [Rule(rf'{_WRAPPED}{_NORM}(.+)', rf'{norm}\1') for norm in norms]


def _holds(names: Mapping[str, object], pattern: str) -> bool:
    return any(re.match(pattern, name) for name in names)
