# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What one traced operation costs, in multiply-adds.

fvcore traces a model and asks a handle per operation kind; this file supplies the
handles that it lacks, or that hold for fewer shapes than occur here. The convention
is fvcore's, by which the papers count:

* one multiply-add is 1; biases are free;
* matrix products (``linear``, ``matmul``, ``einsum``, ...), convolutions and both
  products of attention are counted, masked or not;
* normalisations are 5 per element, 4 without affine parameters, batch norm 2 and 1.
  It is little, but the published figures hold it: the dense MViT-B16 is 70.80 GFLOPs
  with it and 70.60 without;
* sampling (``grid_sampler``, ``embedding_bag``) is 1 per neighbour that is read;
* resizing and pooling that fvcore knows keep its estimate.

Everything else is free, either silently (``TRIVIAL_OPS``) or listed as not counted.
"""
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from fvcore.nn.jit_handles import batchnorm_flop_jit

__all__ = ['HANDLES', 'SHOWN_OPS', 'TRIVIAL_OPS']

# Of an operation's inputs and outputs (torch._C.Value) to its multiply-adds.
Values = Sequence[Any]
Handle = Callable[[Values, Values], int]


def shape_of(value: Any) -> tuple[int, ...] | None:
    """Sizes of a traced tensor; None where the value is not one (e.g. no bias)."""
    return tuple(value.type().sizes()) if value.isCompleteTensor() else None


def product(first: int) -> Handle:
    """A product whose operands are inputs ``first`` and ``first + 1``.

    Each output element sums over the last dimension of the left operand, whatever
    is broadcast and whether the operands are vectors, matrices or batches.
    """

    def handle(inputs: Values, outputs: Values) -> int:
        summed = shape_of(inputs[first])[-1]
        return math.prod(shape_of(outputs[0])) * summed

    return handle


def linear(inputs: Values, outputs: Values) -> int:
    """linear(x, weight, bias): (..., I) by (O, I), or by (I,)."""
    return math.prod(shape_of(outputs[0])) * shape_of(inputs[1])[-1]


def addbmm(inputs: Values, outputs: Values) -> int:
    """addbmm(bias, a, b): batched products (B, N, M) x (B, M, P), summed over B."""
    return math.prod(shape_of(inputs[1])) * shape_of(inputs[2])[-1]


def tensordot(inputs: Values, outputs: Values) -> int:
    """tensordot(a, b, ...): A kept, K summed and B kept places cost A * K * B.

    The sizes of a, b and the result are A*K, K*B and A*B: the root of their product.
    """
    sizes = (*shape_of(inputs[0]), *shape_of(inputs[1]), *shape_of(outputs[0]))
    return math.isqrt(math.prod(sizes))


def einsum(inputs: Values, outputs: Values) -> int:
    """einsum(equation, operands, path): the pairwise contractions that are done.

    A contraction of two operands costs the product of the sizes of every index in
    either. Three operands and more are contracted along the traced path, or from
    left to right where there is none. One operand alone costs nothing.
    """
    equation = inputs[0].toIValue().replace(' ', '')
    shapes = [shape_of(value) for value in inputs[1].node().inputs()]
    terms, output, sizes = _einsum_indices(equation, shapes)
    # A path is a flat list of pairs; each result goes to the end of the operands.
    path = [value.toIValue() for value in inputs[2].node().inputs()]
    path = path or ([0, 1] + [0, -1] * len(terms))[:2 * len(terms) - 2]
    cost = 0
    for first, second in zip(path[::2], path[1::2], strict=True):
        places = sorted((first % len(terms), second % len(terms)), reverse=True)
        pair = set().union(*(terms.pop(place) for place in places))
        cost += math.prod(sizes[index] for index in pair)
        terms.append(pair & set().union(output, *terms))
    return cost


def _einsum_indices(
    equation: str, shapes: list[tuple[int, ...]]
) -> tuple[list[set], set, dict]:
    """Index sets of the operands and of the output, and the size of each index.

    Dimensions under an ellipsis get the names -1, -2, ... counted from its right.
    """
    left, arrow, right = equation.partition('->')
    sizes: dict[str | int, int] = {}
    terms = []
    for term, shape in zip(left.split(','), shapes, strict=True):
        head, dots, tail = term.partition('...')
        hidden = len(shape) - len(head) - len(tail)
        names = [*head, *range(-hidden, 0), *tail]
        for name, size in zip(names, shape, strict=True):
            sizes[name] = max(size, sizes.get(name, 1))  # 1 is broadcast
        terms.append(set(names))
    letters = [name for name in left if name.isalpha()]
    if not arrow:
        right = ''.join(name for name in letters if letters.count(name) == 1)
    output = {name for name in right if name.isalpha()}
    if not arrow or '...' in right:
        output |= {name for name in sizes if isinstance(name, int)}
    return terms, output, sizes


def convolution(inputs: Values, outputs: Values) -> int:
    """Convolution of inputs[0] with a kernel inputs[1], grouped or not.

    Each output element sums over a kernel (O, I/groups, k, ...) but for its O; a
    transposed one spreads each input element over a kernel (I, O/groups, k, ...).
    """
    # Only the general forms carry the flag; it is their seventh argument.
    flag = inputs[6].toIValue() if len(inputs) > 8 else False
    moved = shape_of(inputs[0]) if flag is True else shape_of(outputs[0])
    return math.prod(moved) * math.prod(shape_of(inputs[1])[1:])


def attention(inputs: Values, outputs: Values) -> int:
    """Both products of fused attention: q (..., L, D), k (..., S, D), v (..., S, V).

    The output (..., L, V) has the heads of q, also where those of k and v are shared.
    """
    *rows, width = shape_of(outputs[0])
    num_keys, depth = shape_of(inputs[1])[-2:]
    return math.prod(rows) * num_keys * (depth + width)


def norm(affine: int) -> Handle:
    """A normalisation of inputs[0] whose scale is input ``affine``."""

    def handle(inputs: Values, outputs: Values) -> int:
        per_element = 4 if shape_of(inputs[affine]) is None else 5
        return math.prod(shape_of(inputs[0])) * per_element

    return handle


def grid_sampler(inputs: Values, outputs: Values) -> int:
    """grid_sampler(x, grid, mode, ...): mode 0 linear, 1 nearest, 2 bicubic."""
    neighbours = {0: 2, 1: 1, 2: 4}[inputs[2].toIValue()]
    shape = shape_of(outputs[0])
    return math.prod(shape) * neighbours**(len(shape) - 2)


def embedding_bag(inputs: Values, outputs: Values) -> int:
    """embedding_bag(table, indices, ...): each row that is read joins a sum."""
    return math.prod(shape_of(inputs[1])) * shape_of(inputs[0])[-1]


def _family(kind: str, handle: Handle, *names: str) -> dict[str, Callable]:
    """fvcore's handles of some operations, all reported as one kind."""

    def counter(inputs: Values, outputs: Values) -> Counter:
        return Counter({kind: handle(inputs, outputs)})

    return {f'aten::{name}': counter for name in names}


HANDLES: dict[str, Callable[[Values, Values], Counter]] = {
    **_family('linear', linear, 'linear'),
    **_family('matmul', product(0), 'mm', 'bmm', 'matmul', 'mv', 'dot', 'vdot',
              'inner'),
    **_family('matmul', product(1), 'addmm', 'baddbmm', 'addmv'),
    **_family('matmul', addbmm, 'addbmm'),
    **_family('matmul', tensordot, 'tensordot'),
    **_family('matmul', einsum, 'einsum'),
    **_family('convolution', convolution, '_convolution', 'convolution',
              '_convolution_mode', 'conv1d', 'conv2d', 'conv3d'),
    **_family('attention', attention, 'scaled_dot_product_attention',
              '_scaled_dot_product_attention_math',
              '_scaled_dot_product_flash_attention',
              '_scaled_dot_product_flash_attention_for_cpu',
              '_scaled_dot_product_efficient_attention',
              '_scaled_dot_product_cudnn_attention',
              '_scaled_dot_product_fused_attention_overrideable'),
    **_family('norm', norm(2), 'layer_norm', 'group_norm'),
    **_family('norm', norm(1), 'instance_norm'),
    **_family('norm', batchnorm_flop_jit, 'batch_norm'),
    **_family('sampling', grid_sampler, 'grid_sampler'),
    **_family('sampling', embedding_bag, 'embedding_bag'),
}

# fvcore passes over these in silence, although their time can show: list them.
SHOWN_OPS = ('aten::gather', 'aten::index', 'aten::index_put_', 'aten::nonzero')

# Free and not worth a line: one operation per element or fewer (arithmetic,
# comparisons, activations, sums and extremes along a dimension, random numbers) or
# none (views, copies, types, sizes). Softmax, pooling and what selects or sorts are
# not among them.
TRIVIAL_OPS: tuple[str, ...] = tuple(
    f'aten::{name}' for name in (
        # arithmetic and comparison
        'abs abs_ add add_ addcdiv addcmul bitwise_and bitwise_or ceil ceil_ '
        'clamp_max clamp_min cos div div_ exp fmod isfinite isinf isnan le lerp '
        'log log1p log2 logical_and logical_not logical_or logical_xor lt nan_to_num '
        'masked_fill_ maximum minimum mul mul_ ne neg neg_ pow reciprocal round '
        'rsqrt rsub sign sin sqrt square sub sub_ trunc true_divide where '
        # activations
        'elu gelu hardsigmoid hardswish hardtanh leaky_relu mish relu6 sigmoid '
        'sigmoid_ silu silu_ softplus tanh tanh_ '
        # reductions
        'all amax amin aminmax any cumsum linalg_norm linalg_vector_norm mean min '
        'norm prod std std_mean sum var var_mean '
        # new tensors
        'bernoulli bernoulli_ empty_like eye fill_ linspace new_ones new_tensor '
        'normal_ normal ones_like rand rand_like randn randn_like scalar_tensor '
        'tril triu uniform_ zero_ '
        # shapes, copies and types
        'alias atleast_1d atleast_2d atleast_3d broadcast_tensors broadcast_to clone '
        'concat diagonal dim expand_as feature_dropout flip hstack '
        'lift_fresh mT movedim moveaxis mH numel numpy_T ones pad repeat reshape_as '
        'result_type resolve_conj resolve_neg squeeze_ swapaxes swapdims '
        'tensor_split tile transpose_ unflatten unfold unsafe_chunk unsafe_split '
        'view_as vstack Bool Float IntImplicit FloatImplicit __or__ is_nonzero '
        'item _shape_as_tensor pixel_shuffle').split())
