# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Parameters and multiply-adds of any module, in total and by part.

fvcore traces one forward pass in eval mode; ``flop_handles.py`` says what is counted
and by which convention. A result that nothing depends on is not counted: the trace
drops it. What a module with ``counted_apart`` does, a word for work that published
figures leave out, is no part of the total and stands beside it. On the ``meta`` device
the count is the same and no arithmetic is done.
"""
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from fvcore.nn import FlopCountAnalysis
from mmaction.models.recognizers import MMRecognizer3D
from torch import Tensor, nn

from ..models.detectors import EVAD
from .flop_handles import HANDLES, SHOWN_OPS, TRIVIAL_OPS
from .meta_convolutions import RecordedConvolutions

__all__ = ['Complexity', 'Part', 'align_columns', 'count_complexity',
           'recognizer_forward', 'recognizer_inputs']

# Calls a model on its inputs; for models that are not called with tensors alone.
Forward = Callable[..., Any]

_OWN = '(model)'  # the part of what no submodule holds


@dataclass(frozen=True)
class Part:
    """What one part of a model costs: parameters, and multiply-adds of a forward."""
    params: int
    flops: int

    @property
    def gflops(self) -> float:
        return self.flops / 1e9


@dataclass(frozen=True)
class Complexity:
    """What a model costs.

    Attributes:
        params: Number of parameters, shared ones once.
        flops: Multiply-adds of one forward pass on the given inputs.
        parts: Name to cost of the parts that cost anything; they sum to the total.
            A parent's name stands for what it holds or computes itself.
        operators: Kind of operation to its multiply-adds; they sum to the total.
        not_counted: Operation to how often it was called and counted as free.
        apart: Work that published figures leave out to its multiply-adds, which are in
            none of the others.
    """
    params: int
    flops: int
    parts: dict[str, Part]
    operators: dict[str, int]
    not_counted: dict[str, int]
    apart: dict[str, int] = field(default_factory=dict)

    @property
    def gflops(self) -> float:
        return self.flops / 1e9

    def as_dict(self) -> dict:
        """Plain values for JSON: params, gflops, parts, operators, not_counted and, if
        there is any, apart."""
        return dict(
            params=self.params,
            gflops=self.gflops,
            parts={
                name: dict(params=part.params, gflops=part.gflops)
                for name, part in self.parts.items()
            },
            operators={name: flops / 1e9 for name, flops in self.operators.items()},
            not_counted=dict(self.not_counted),
            **(dict(apart={name: flops / 1e9 for name, flops in self.apart.items()})
               if self.apart else {}))

    def table(self) -> str:
        """The same as text: parts, kinds of operation, and what was not counted."""
        total = Part(self.params, self.flops)
        rows = [('part', 'parameters (M)', 'GFLOPs', 'share')]
        for name, part in [*self.parts.items(), ('total', total)]:
            share = part.flops / self.flops if self.flops else 0.
            rows.append((name, f'{part.params / 1e6:.6f}', f'{part.gflops:.4f}',
                         f'{share:.1%}'))
        kinds = [('of which', 'GFLOPs')]
        kinds += [(name, f'{flops / 1e9:.4f}')
                  for name, flops in self.operators.items()]
        beside = [('beside the total', 'GFLOPs')]
        beside += [(name, f'{flops / 1e9:.4f}') for name, flops in self.apart.items()]
        missed = [('not counted', 'calls')]
        missed += [(name, str(calls)) for name, calls in self.not_counted.items()]
        blocks = [align_columns(rows), align_columns(kinds)]
        if self.apart:
            blocks.append(align_columns(beside))
        blocks.append(align_columns(missed) if self.not_counted
                      else 'not counted: nothing')
        return '\n\n'.join(blocks)


def align_columns(rows: list[tuple[str, ...]]) -> str:
    """Columns of text: the first to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        '  '.join(cell.ljust(width) if i == 0 else cell.rjust(width)
                  for i, (cell, width) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
    return '\n'.join([lines[0], '-' * len(lines[0]), *lines[1:]])


def recognizer_forward(model: nn.Module, clips: Tensor) -> Any:
    """Class scores of an mmaction recogniser, one view each, not normalised.

    Args:
        model: A Recognizer3D, whose inputs are (B, views, C, T, H, W), or a
            MMRecognizer3D whose backbone takes motion, too: it is given none. Or the
            detector EVAD: persons, boxes and actions.
        clips: (B, C, T, H, W).
    """
    inputs = recognizer_inputs(model, clips)
    if isinstance(model, EVAD):
        return model(inputs)
    stage = 'head' if model.with_cls_head else 'neck'
    return model(inputs, mode='tensor', stage=stage)


def recognizer_inputs(model: nn.Module, clips: Tensor) -> Tensor | dict[str, Tensor]:
    """Clips as a model takes them, see ``recognizer_forward``.

    Args:
        model: See there.
        clips: (B, C, T, H, W).

    Returns:
        The clips, for a recogniser (B, 1, C, T, H, W); with motion of zeros in a dict
        for one that takes motion.
    """
    if isinstance(model, EVAD):
        return clips
    inputs = clips.unsqueeze(1)
    if isinstance(model, MMRecognizer3D):
        motion = model.backbone.deformable.no_motion(clips)
        inputs = dict(imgs=inputs, motion=motion.unsqueeze(1))
    return inputs


def count_complexity(model: nn.Module,
                     inputs: Tensor | tuple[Tensor, ...],
                     forward: Forward | None = None,
                     depth: int = 2) -> Complexity:
    """Count the parameters and multiply-adds of one forward pass in eval mode.

    Args:
        model: Any module; its training flags are restored. On the ``meta`` device
            (``model.to('meta')``) the count takes no arithmetic and next to no
            memory; a model that looks at values (``x.item()``) cannot be there.
        inputs: What it is called with: a tensor or a tuple of tensors, on the
            model's device.
        forward: How it is called, ``forward(model, *inputs)``; ``model(*inputs)``
            unless given. See ``recognizer_forward``.
        depth: How many levels of submodules are parts.

    Returns:
        The cost, in total and by part.

    Raises:
        TypeError: If the forward pass returns no tensor.
        ValueError: If ``depth`` is below 1.
    """
    if depth < 1:
        raise ValueError(f'depth={depth}: must be at least 1')
    if isinstance(inputs, Tensor):
        inputs = (inputs, )
    shown: Counter[str] = Counter()
    analysis = FlopCountAnalysis(_Call(model, forward), tuple(inputs))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    analysis.set_op_handle(**HANDLES, **{op: None for op in TRIVIAL_OPS})
    analysis.set_op_handle(**{op: _only_list(shown, op) for op in SHOWN_OPS})
    on_meta = any(tensor.is_meta for tensor in inputs)
    with _eval_mode(model), RecordedConvolutions() if on_meta else nullcontext():
        analysis.total()
    by_module, by_operator = analysis.by_module(), analysis.by_operator()
    apart = _take_apart(model, by_module, by_operator,
                        analysis.by_module_and_operator())
    not_counted = analysis.unsupported_ops() + shown
    return Complexity(
        params=sum(parameter.numel() for parameter in model.parameters()),
        flops=int(by_module['']),
        parts=_parts(model, by_module, depth),
        operators={name: int(count) for name, count in by_operator.most_common()
                   if count},
        not_counted=dict(sorted(not_counted.items())),
        apart=apart)


def _take_apart(model: nn.Module, by_module: Counter, by_operator: Counter,
                both: Mapping[str, Counter]) -> dict[str, int]:
    """Take work that has a ``counted_apart`` out of both counts, and return it."""
    apart: Counter[str] = Counter()
    for name, module in model.named_modules():
        kind = getattr(module, 'counted_apart', None)
        if not kind:
            continue
        for operator, count in both[f'model.{name}' if name else 'model'].items():
            apart[kind] += int(count)
            by_operator[operator] -= count
            path = f'model.{name}' if name else 'model'
            while path:  # the module, and all that hold it
                by_module[path] -= count
                path = path.rpartition('.')[0]
            by_module[''] -= count
    return dict(apart)


class _Call(nn.Module):
    """Calls ``forward`` on a model and returns every tensor of its output.

    A trace wants tensors; what is left out of the output would not be counted.
    """

    def __init__(self, model: nn.Module, forward: Forward | None) -> None:
        super().__init__()
        self.model = model
        self.call = forward

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        if self.call is None:
            output = self.model(*inputs)
        else:
            output = self.call(self.model, *inputs)
        tensors = tuple(_tensors(output))
        if not tensors:
            raise TypeError('cannot count a model whose forward pass returns no '
                            f'tensor, but {type(output).__name__}')
        return tensors


def _tensors(output: Any) -> Iterator[Tensor]:
    """The tensors in nested tuples, lists and mappings, in their order."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, list | tuple):
        for item in output:
            yield from _tensors(item)
    elif isinstance(output, Mapping):
        yield from _tensors(list(output.values()))


def _only_list(shown: Counter, op: str) -> Callable:
    """A handle that counts calls of an operation, and no work."""

    def handle(inputs: list, outputs: list) -> Counter:
        shown[op] += 1
        return Counter()

    return handle


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; each module gets its own flag back."""
    flags = {module: module.training for module in model.modules()}
    fused = torch.backends.mha.get_fastpath_enabled()
    # One fused call would hide all products of an nn.MultiheadAttention.
    torch.backends.mha.set_fastpath_enabled(False)
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for module, flag in flags.items():
            module.training = flag


def _parts(model: nn.Module, flops: Mapping[str, int], depth: int) -> dict[str, Part]:
    """Share parameters and multiply-adds out to parts, in the model's order.

    Args:
        model: The model that was counted.
        flops: Inclusive multiply-adds by module name, under ``'model'``.
        depth: How many levels of a module's name make the part that it belongs to.
    """

    def part_name(module_name: str) -> str:
        return '.'.join(module_name.split('.')[:depth]) or _OWN

    own_flops: dict[str, int] = {}
    for name, _ in model.named_modules():
        own_flops.setdefault(part_name(name), 0)
        if name.count('.') >= depth:
            continue
        count = int(flops[f'model.{name}' if name else 'model'])
        own_flops[part_name(name)] += count
        if name:  # what a child does is not its parent's own
            own_flops[part_name(name.rpartition('.')[0])] -= count
    own_flops[_OWN] += int(flops['']) - int(flops['model'])
    own_params: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        own_params[part_name(name.rpartition('.')[0])] += parameter.numel()
    return {
        name: Part(own_params[name], count)
        for name, count in own_flops.items() if count or own_params[name]
    }
