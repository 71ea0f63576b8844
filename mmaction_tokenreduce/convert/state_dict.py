# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Renaming a released state dict, strictly.

Ordered rules give each source name a target name, or drop it with a reason. The result
is exactly the target's: each source name is used once, each target name is filled, and
the shapes agree; whatever does not fit is named. A converter may say which target names
no source fills, and why; they are then left out.
"""
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

__all__ = [
    'Conversion', 'Rule', 'Shapes', 'Target', 'convert_state_dict', 'target_shapes'
]

Shapes = dict[str, tuple[int, ...]]
# A model, its state dict, or names and sizes.
Target = nn.Module | Mapping[str, Tensor | Sequence[int]]

_SHOWN = 4  # names of each kind in a message


@dataclass(frozen=True)
class Rule:
    r"""Where source names of one form go.

    Attributes:
        pattern: Regular expression for the whole source name.
        target: The new name, with groups as ``\1``; None drops what matches.
        reason: Why it is dropped; needed with, and only with, ``target=None``.

    Raises:
        ValueError: If it drops without a reason, or gives one and does not drop.
    """
    pattern: str
    target: str | None
    reason: str = ''

    def __post_init__(self) -> None:
        if (self.target is None) != bool(self.reason):
            raise ValueError(f'rule {self.pattern!r}: a reason is needed where, and '
                             f'only where, keys are dropped; got {self.reason!r}')


@dataclass(frozen=True)
class Conversion:
    """A converted state dict and how it came about.

    Attributes:
        state_dict: Target name to the source's tensor, in the target's order.
        sources: Target name to source name.
        dropped: Source name to the reason why it was left out.
        initial: Target name to the reason why nothing was written for it.
    """
    state_dict: dict[str, Tensor]
    sources: dict[str, str]
    dropped: dict[str, str]
    initial: dict[str, str] = field(default_factory=dict)

    def summary(self) -> str:
        """Tensors and parameters by part (two levels), and what was left out."""
        parts: dict[str, list[int]] = {}
        for name, tensor in self.state_dict.items():
            parent = name.rpartition('.')[0]
            part = '.'.join(parent.split('.')[:2])
            parts.setdefault(part, []).append(tensor.numel())
        parts['total'] = [tensor.numel() for tensor in self.state_dict.values()]
        width = max(len(part) for part in parts)
        lines = [
            f'{part:<{width}}  {len(sizes):4d} tensors  {sum(sizes) / 1e6:10.6f} M'
            for part, sizes in parts.items()
        ]
        for what, reasons in (('dropped', self.dropped),
                              ('not written, keeps its initial value:', self.initial)):
            for reason in dict.fromkeys(reasons.values()):
                names = [name for name, why in reasons.items() if why == reason]
                lines.append(f'{what} {_first_few(names)}: {reason}')
        return '\n'.join(lines)

    def listing(self) -> str:
        """One line per tensor: source name, target name, shape; what was left out."""
        lines = [f'{source} -> {name} {_size(self.state_dict[name].shape)}'
                 for name, source in self.sources.items()]
        lines += [f'{name} is dropped' for name in self.dropped]
        lines += [f'{name} is not written' for name in self.initial]
        return '\n'.join(lines)


def target_shapes(target: Target) -> Shapes:
    """Names and shapes that a target has.

    Args:
        target: A model, its state dict, or a mapping of names to sizes.
    """
    values = target.state_dict() if isinstance(target, nn.Module) else target
    return {
        name: tuple(value.shape if isinstance(value, Tensor) else value)
        for name, value in values.items()
    }


def convert_state_dict(state_dict: Mapping[str, Tensor], rules: Sequence[Rule],
                       target: Target, source: str,
                       initial: Mapping[str, str] | None = None) -> Conversion:
    """Rename a state dict to fit a target exactly.

    Args:
        state_dict: Released names to tensors.
        rules: The first that matches a name decides.
        target: What the result must fit; see :func:`target_shapes`.
        source: The converter's name, for messages.
        initial: Regular expressions for whole target names that may stay unfilled, and
            why.

    Returns:
        The converted state dict; its tensors are the source's, not copies.

    Raises:
        ValueError: If a source name has no place or shares one, a target name is left
            empty, or shapes differ; the first few of each kind are named.
    """
    shapes = target_shapes(target)
    sources: dict[str, str] = {}
    dropped: dict[str, str] = {}
    unknown, twice = [], []
    for name in state_dict:
        rule, new = _first_match(name, rules)
        if rule is not None and new is None:
            dropped[name] = rule.reason
        elif new is None:
            unknown.append(name)
        elif new not in shapes:
            unknown.append(f'{name} (-> {new})')
        elif new in sources:
            twice.append(f'{sources[new]} and {name} (-> {new})')
        else:
            sources[new] = name
    misshapen = [
        f'{name} {_size(state_dict[name].shape)}, but {new} is {_size(shapes[new])}'
        for new, name in sources.items()
        if tuple(state_dict[name].shape) != shapes[new]
    ]
    missing = [name for name in shapes if name not in sources]
    kept = {name: why for name in missing
            for pattern, why in (initial or {}).items() if re.fullmatch(pattern, name)}
    problems = [
        _describe('source keys have no place in the model', unknown),
        _describe('source keys share a place', twice),
        _describe('keys of the model are missing from the source',
                  [name for name in missing if name not in kept]),
        _describe('keys have another shape', misshapen),
    ]
    if any(problems):
        raise ValueError(f'{source}: the checkpoint does not fit the model: '
                         + '; '.join(problem for problem in problems if problem))
    sources = {name: sources[name] for name in shapes if name in sources}
    converted = {name: state_dict[key] for name, key in sources.items()}
    return Conversion(converted, sources, dropped, kept)


def _first_match(name: str, rules: Iterable[Rule]) -> tuple[Rule | None, str | None]:
    """The rule that decides a name, and the new name (None: dropped or unknown)."""
    for rule in rules:
        match = re.fullmatch(rule.pattern, name)
        if match:
            return rule, None if rule.target is None else match.expand(rule.target)
    return None, None


def _describe(what: str, names: list[str]) -> str:
    """'3 keys ...: a, b, and 1 more'; empty where there are none."""
    return f'{len(names)} {what}: {_first_few(names)}' if names else ''


def _first_few(names: list[str]) -> str:
    """'a, b, and 1 more'."""
    shown, rest = ', '.join(names[:_SHOWN]), len(names) - _SHOWN
    return shown + (f', and {rest} more' if rest > 0 else '')


def _size(shape: Sequence[int]) -> str:
    """'96x3x3x7x7'; 'scalar' for no dimension."""
    return 'x'.join(str(side) for side in shape) or 'scalar'
