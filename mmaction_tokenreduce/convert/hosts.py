# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What converters of several hosts share: the final norm, STTS's score networks.

The STTS release numbers its score networks by kind, in the order in which they act;
here they stand in the order of the config, whatever their kind.
"""
import re
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from .state_dict import Rule, Shapes, Target

__all__ = ['final_norm', 'selector_rules']

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


def final_norm(shapes: Shapes, source: str, host: str) -> str:
    """Name of the norm after a host's last layer, ``backbone.norm<scale>``.

    Args:
        shapes: Names and shapes of the target.
        source: The converter's name, for messages.
        host: The host's type, for messages.

    Raises:
        ValueError: If the target has no single one.
    """
    norms = [match[1] for name in shapes
             if (match := re.fullmatch(r'(backbone\.norm\d+)\.weight', name))]
    if len(norms) != 1:
        raise ValueError(
            f'{source}: the model must be a recogniser around a {host} with one '
            f'output scale, but has {", ".join(norms) or "no backbone.norm<scale>"}')
    return norms[0]


def selector_rules(state_dict: Mapping[str, Tensor], target: Target, shapes: Shapes,
                   reducers: Sequence[Mapping] | None, source: str,
                   prefix: str = '') -> list[Rule]:
    """Rules for the score networks of the STTS release.

    Args:
        state_dict: Released names to tensors.
        target: A Recognizer3D with selectors, or its names and shapes.
        shapes: Names and shapes of the target.
        reducers: ``model.backbone.reducers`` of the target's config, of which ``type``
            and ``before`` are read. A model with at most one selector of a kind can do
            without.
        source: The converter's name, for messages.
        prefix: What stands before the released names.

    Raises:
        ValueError: If there are more or fewer selectors than score networks, or if
            their order cannot be known.
    """
    selectors = _scored_selectors(target, shapes, reducers, source)
    rules = []
    for kind, predictor in _PREDICTORS.items():
        start, numbers = re.escape(prefix) + predictor, selectors[kind]
        held = {match[1] for name in state_dict
                if (match := re.match(rf'{start}\.(\d+)\.', name))}
        if len(held) != len(numbers):
            raise ValueError(
                f'{source}: the checkpoint has {len(held)} score networks under '
                f'{prefix}{predictor}, the model {len(numbers)} {kind} with one: give '
                'a config whose reducers are those of the checkpoint')
        rules += [
            Rule(rf'{start}\.{j}\.score_network\.{re.escape(old)}\.(.+)',
                 rf'backbone.reducers.{number}.score_net.{new}.\1')
            for j, number in enumerate(numbers) for old, new in _SCORE_NET.items()
        ]
    return rules


def _scored_selectors(target: Target, shapes: Shapes,
                      reducers: Sequence[Mapping] | None,
                      source: str) -> dict[str, list[int]]:
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
        raise ValueError(f'{source}: which of the reducers {sorted(scored)} select '
                         'frames, which regions? Give the reducers of the config, of '
                         f'types {" and ".join(_PREDICTORS)}')
    if reducers is None and any(len(numbers) > 1 for numbers in found.values()):
        raise ValueError(f'{source}: the model has several selectors of a kind: give '
                         'the reducers of its config, which say in what order they act')
    return found


def _kind_name(kind: str | type) -> str:
    """A reducer type's name without a scope."""
    return kind.rpartition('.')[2] if isinstance(kind, str) else kind.__name__
