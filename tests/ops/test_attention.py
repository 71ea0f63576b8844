# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What is read from attention without its map, against the map itself."""
import pytest
import torch
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from mmaction_tokenreduce.ops import attention
from mmaction_tokenreduce.ops.attention import cls_row, received_attention

B, HEADS, L, D = 2, 3, 11, 4


@pytest.fixture
def qk():
    """Queries and keys whose softmax is far from uniform."""
    return 2 * torch.randn(B, HEADS, L, D), 2 * torch.randn(B, HEADS, L, D)


def naive_map(q, k, scale):
    """(B, n, L, L), one softmax at a time."""
    rows = torch.zeros(B, HEADS, L, L)
    for b in range(B):
        for n in range(HEADS):
            for i in range(L):
                exps = [float((q[b, n, i] * k[b, n, j]).sum() * scale)
                        for j in range(L)]
                rows[b, n, i] = torch.tensor(exps).softmax(0)
    return rows


def test_cls_row_is_the_first_row_of_the_map(qk):
    q, k = qk
    expected = naive_map(q, k, 0.3).mean(1)[:, 0, 1:]
    got = cls_row(q, k, 0.3)
    assert_close(got, expected)
    # the class token attends to itself too: its share is missing from the row
    assert (got.sum(1) < 1).all()
    assert torch.equal(cls_row(q[:, :, :1], k, 0.3), got)


@pytest.mark.parametrize('rows', [11, 4, 1, 0])
def test_received_attention_is_the_column_mean_of_the_map(qk, monkeypatch, rows):
    """In slices of that many queries, the last one smaller; at least one query."""
    monkeypatch.setattr(attention, '_CELLS', rows * B * HEADS * L)
    got = received_attention(*qk, 0.3)
    assert_close(got, naive_map(*qk, 0.3).mean((1, 2)))
    assert_close(got.sum(1), torch.ones(B))


class Largest(TorchDispatchMode):
    """Number of elements of the largest tensor that is computed."""
    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **kwargs or {})
        if isinstance(out, torch.Tensor):
            self.numel = max(self.numel, out.numel())
        return out


def test_no_more_of_the_map_is_held_than_allowed(qk, monkeypatch):
    cells = 5 * B * HEADS * L
    monkeypatch.setattr(attention, '_CELLS', cells)
    with Largest() as largest:
        received_attention(*qk, 0.3)
    assert largest.numel == cells


@pytest.mark.parametrize('read', [cls_row, received_attention])
def test_ranks_are_float32_and_not_differentiated(qk, read):
    q, k = (part.bfloat16().requires_grad_() for part in qk)
    got = read(q, k, 0.3)
    assert got.dtype == torch.float32 and not got.requires_grad
    exact = read(*(part.detach().float() for part in (q, k)), 0.3)
    assert_close(got, exact, rtol=0.05, atol=0.01)
