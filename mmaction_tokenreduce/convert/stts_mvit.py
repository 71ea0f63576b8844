# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""The released STTS-MViT to a recogniser around ``ReducedMViT`` with selectors.

The release numbers its score networks by kind, in the order in which they act; here
they stand in the order of the config, whatever their kind.
"""
import re
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from .slowfast_mvit import mvit_rules
from .state_dict import (
    Conversion,
    Rule,
    Shapes,
    Target,
    convert_state_dict,
    target_shapes,
)

__all__ = ['convert_stts_mvit']

_SOURCE = 'stts_mvit'
_PREDICTORS = {
    'TemporalSelection': 'time_score_predictor',
    'SpatialSelection': 'space_score_predictor'
}
_SCORE_NET = {
    'in_conv.0': 'norm',
    'in_conv.1': 'embed',
    'out_conv.0': 'head.0',
    'out_conv.2': 'head.2',
    'out_conv.4': 'head.4'
}


def convert_stts_mvit(state_dict: Mapping[str, Tensor], target: Target,
                      reducers: Sequence[Mapping] | None = None) -> Conversion:
    """Convert the weights of an STTS-MViT.

    Args:
        state_dict: Released names to tensors, what files hold under ``model_state``.
        target: A Recognizer3D around a ReducedMViT, or its names and shapes.
        reducers: ``model.backbone.reducers`` of the target's config, of which ``type``
            and ``before`` are read. A model with at most one selector of a kind can do
            without.

    Raises:
        ValueError: If a key is unknown, missing or misshapen, if there are more or
            fewer selectors than score networks, or if their order cannot be known.
    """
    shapes = target_shapes(target)
    rules = mvit_rules(shapes, _SOURCE)
    selectors = _scored_selectors(target, shapes, reducers)
    for kind, predictor in _PREDICTORS.items():
        numbers = selectors[kind]
        held = {match[1] for name in state_dict
                if (match := re.match(rf'{predictor}\.(\d+)\.', name))}
        if len(held) != len(numbers):
            raise ValueError(
                f'{_SOURCE}: the checkpoint has {len(held)} score networks under '
                f'{predictor}, the model {len(numbers)} {kind} with one: give a config '
                'whose reducers are those of the checkpoint')
        for j, number in enumerate(numbers):
            rules += [
                Rule(
                    rf'{predictor}\.{j}\.score_network\.{re.escape(old)}\.(.+)',
                    rf'backbone.reducers.{number}.score_net.{new}.\1')
                for old, new in _SCORE_NET.items()
            ]
    return convert_state_dict(state_dict, rules, shapes, _SOURCE)


def _scored_selectors(target: Target, shapes: Shapes,
                      reducers: Sequence[Mapping] | None) -> dict[str, list[int]]:
    """Indices of the selectors that have a score network, by kind, as they act."""
    scored = {int(match[1]) for name in shapes
              if (match := re.match(r'backbone\.reducers\.(\d+)\.score_net\.', name))}
    if reducers is not None:
        order = sorted(range(len(reducers)), key=lambda i: reducers[i]['before'])
        kinds = [_kind_name(reducer['type']) for reducer in reducers]
    elif isinstance(target, nn.Module):
        modules = getattr(target.backbone, 'reducers', ())
        order = list(range(len(modules)))
        kinds = [type(module).__name__ for module in modules]
    else:
        order, kinds = [], []
    found = {kind: [i for i in order if i in scored and kinds[i] == kind]
             for kind in _PREDICTORS}
    if scored != {i for numbers in found.values() for i in numbers}:
        raise ValueError(f'{_SOURCE}: which of the reducers {sorted(scored)} select '
                         'frames, which regions? Give the reducers of the config, of '
                         f'types {" and ".join(_PREDICTORS)}')
    if reducers is None and any(len(numbers) > 1 for numbers in found.values()):
        raise ValueError(f'{_SOURCE}: the model has several selectors of a kind: give '
                         'the reducers of its config, which say in what order they act')
    return found


def _kind_name(kind: str | type) -> str:
    """A reducer type's name without a scope."""
    return kind.rpartition('.')[2] if isinstance(kind, str) else kind.__name__
