# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""ONNX forms of operators that PyTorch's exporter has none for.

Give them to it: ``torch.onnx.export(..., custom_translation_table=TRANSLATIONS)``. This
module alone needs onnxscript; nothing imports it but what exports.

Legend: R rows, L tokens in a row, k picked.
"""
import torch
from onnxscript import FLOAT, INT64, opset18, script
from onnxscript.values import Opset

from .ops import orthogonal  # noqa: F401  (defines greedy_pick)

__all__ = ['TRANSLATIONS']


@script(Opset('mmaction_tokenreduce', 1))
def GreedyPick(near: FLOAT, first: INT64,  # noqa: N802  (a node's name)
               steps: INT64) -> INT64:
    """The loop of ``ops.orthogonal.greedy_loop`` as one ONNX Loop.

    Args:
        near: (R, L, L), infinite on the diagonal.
        first: (R,) int64.
        steps: k - 1.

    Returns:
        (R, k) int64, in the order of picking.
    """
    picked = opset18.Unsqueeze(first, opset18.Constant(value_ints=[1]))
    worst = opset18.GatherND(near, picked, batch_dims=1)
    for _i in range(steps):
        # Of equals ArgMin takes the first, as torch.argmin does on a CPU.
        token = opset18.ArgMin(worst, axis=1, keepdims=1, select_last_index=0)
        row = opset18.GatherND(near, token, batch_dims=1)
        worst = opset18.Max(worst, row)
        picked = opset18.Concat(picked, token, axis=1)
    return picked


def _greedy_pick(near, first, k: int):
    return GreedyPick(near, first, opset18.Constant(value_int=k - 1))


def _stable_sort(self, *, stable=None, dim: int = -1, descending: bool = False):
    """TopK of all: of equals it puts the one of lowest index first."""
    length = opset18.Gather(opset18.Shape(self), opset18.Constant(value_ints=[dim]))
    return opset18.TopK(self, length, axis=dim, largest=int(descending), sorted=1)


def _equal_bags(weight, indices, offsets, scale_grad_by_freq: bool = False,
                mode: int = 0, sparse: bool = False, per_sample_weights=None,
                include_last_offset: bool = False, padding_idx: int = -1):
    """Weighted sums of rows in bags of one size, as 2-d indices make them.

    PyTorch's own form of ``embedding_bag`` mixes types of integers where indices are
    int32, and loops over the bags.
    """
    if mode != 0 or include_last_offset or per_sample_weights is None:
        raise NotImplementedError('embedding_bag in ONNX: weighted sums only')
    bags = opset18.Shape(offsets)
    rest, one = (opset18.Constant(value_ints=[i]) for i in (-1, 1))
    rows = opset18.Reshape(indices, opset18.Concat(bags, rest, axis=0))
    shares = opset18.Reshape(per_sample_weights,
                             opset18.Concat(bags, one, rest, axis=0))
    sums = opset18.MatMul(shares, opset18.Gather(weight, rows, axis=0))
    # What the operator gives beside the sums is for its backward pass.
    return opset18.Squeeze(sums, one), offsets, offsets, offsets


TRANSLATIONS = {
    torch.ops.mmaction_tokenreduce.greedy_pick.default: _greedy_pick,
    torch.ops.aten.sort.stable: _stable_sort,
    torch.ops.aten._embedding_bag.default: _equal_bags,
    torch.ops.aten._embedding_bag_forward_only.default: _equal_bags,
    torch.ops.aten.embedding_bag.padding_idx: _equal_bags,
}
