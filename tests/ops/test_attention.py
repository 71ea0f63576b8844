# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What is read from attention without its map, against the map itself."""
import pytest
import torch
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from mmaction_tokenreduce.ops import attention
from mmaction_tokenreduce.ops.attention import (
    attend,
    attend_and_receive,
    cls_row,
    received_attention,
)

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


@pytest.mark.parametrize('maps', [4, B * HEADS])
@pytest.mark.parametrize('rows', [11, 4, 1, 0])
def test_received_attention_is_the_column_mean_of_the_map(qk, monkeypatch, rows, maps):
    """In slices of that many queries, the last one smaller; at least one query."""
    monkeypatch.setattr(attention, '_SMALL', (maps, rows * maps * L))
    got = received_attention(*qk, 0.3)
    assert_close(got, naive_map(*qk, 0.3).mean((1, 2)))
    assert_close(got.sum(1), torch.ones(B))


def masked_map(q, k, scale, valid):
    """The naive map, in which no query attends to padding."""
    rows = naive_map(q, k, scale) * valid[:, None, None]
    return rows / rows.sum(-1, keepdim=True)


@pytest.mark.parametrize('rows', [4, 1, 0])
@pytest.mark.parametrize('padded', [False, True])
def test_queries_count_by_their_weight(qk, monkeypatch, rows, padded):
    """EVAD, eq. 1: sum over queries i of w_i attn(i, j), by N; written as loops."""
    monkeypatch.setattr(attention, '_SMALL', (4, rows * 4 * L))
    q, k = qk
    weight, valid = 4 * torch.rand(B, L), torch.ones(B, L, dtype=torch.bool)
    if padded:
        valid[1, 7:] = False
    full, want = masked_map(q, k, 0.3, valid), torch.zeros(B, L)
    for b in range(B):
        for j in range(L):
            for i in range(L):
                want[b, j] += weight[b, i] * full[b, :, i, j].mean() / L
    given = valid if padded else None
    assert_close(received_attention(q, k, 0.3, weight, given), want)
    v = torch.randn(B, HEADS, L, D)
    out, got = attend_and_receive(q, k, v, 0.3, weight, given)
    assert_close(got, want)
    assert_close(out, full @ v)
    assert_close(attend(q, k, v, 0.3, valid=given), full @ v)
    if padded:
        assert not got[1, 7:].any()


def test_one_softmax_gives_what_two_passes_give(qk):
    q, k = qk
    v = torch.randn(B, HEADS, L, D)
    out, got = attend_and_receive(q, k, v, 0.3)
    assert_close(out, attend(q, k, v, 0.3))
    assert_close(got, received_attention(q, k, 0.3))


def test_attention_is_differentiable_and_drops(qk):
    q, k = (part.requires_grad_() for part in qk)
    v = torch.randn(B, HEADS, L, D, requires_grad=True)
    valid = torch.arange(L).expand(B, -1) < 8
    attend(q, k, v, 0.3, valid=valid).square().sum().backward()
    assert q.grad.any() and k.grad[:, :, :8].any() and not v.grad[:, :, 8:].any()
    ones = torch.ones(B, HEADS, L, D)
    assert_close(attend(q, k, ones, 0.3), ones)
    assert (attend(q, k, ones, 0.3, dropout=0.5) - ones).abs().max() > 0.1


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
    monkeypatch.setattr(attention, '_SMALL', (B * HEADS, cells))
    with Largest() as largest:
        received_attention(*qk, 0.3)
    assert largest.numel == cells
    with Largest() as largest:
        attend_and_receive(*qk, torch.randn(B, HEADS, L, D), 0.3, torch.ones(B, L))
    assert largest.numel == cells


def test_the_whole_map_is_never_held(qk):
    """However small it is."""
    with Largest() as largest:
        received_attention(*qk, 0.3)
        attend_and_receive(*qk, torch.randn(B, HEADS, L, D), 0.3)
    assert largest.numel == 4 * 6 * L  # of 4 of the 6 maps, 6 of 11 queries


def test_a_graph_serves_batches_of_other_sizes():
    def clips(batch):
        return [torch.randn(batch, HEADS, L, D) for _ in range(3)]

    def read(q, k, v):
        return attend_and_receive(q, k, v, 0.3)

    traced = torch.jit.trace(read, clips(2), check_trace=False)
    compiled = torch.compile(read, backend='eager', fullgraph=True, dynamic=True)
    for batch in (1, 2, 3):
        args = clips(batch)
        assert_close(traced(*args), read(*args))
        with torch.compiler.set_stance(
                'fail_on_recompile' if batch == 3 else 'default'):
            assert_close(compiled(*args), read(*args))


def from_one_softmax(q, k, scale):
    return attend_and_receive(q, k, torch.ones_like(k), scale)[1]


@pytest.mark.parametrize('read', [cls_row, received_attention, from_one_softmax])
def test_ranks_are_float32_and_not_differentiated(qk, read):
    q, k = (part.bfloat16().requires_grad_() for part in qk)
    got = read(q, k, 0.3)
    assert got.dtype == torch.float32 and not got.requires_grad
    exact = read(*(part.detach().float() for part in (q, k)), 0.3)
    assert_close(got, exact, rtol=0.05, atol=0.01)


def test_sums_are_exact_under_autocast(qk):
    q, k = qk
    v, weight = torch.randn(B, HEADS, L, D), 4 * torch.rand(B, L)
    with torch.autocast('cpu', torch.bfloat16):
        out, got = attend_and_receive(q.bfloat16(), k.bfloat16(), v.bfloat16(), 0.3,
                                      torch.ones(B, L))
    assert out.dtype == torch.bfloat16 and got.dtype == torch.float32
    assert_close(got.sum(1), torch.ones(B), rtol=1e-5, atol=1e-5)
    with torch.autocast('cpu', torch.bfloat16):
        twice = received_attention(q.bfloat16(), k.bfloat16(), 0.3, 2 * weight)
        once = received_attention(q.bfloat16(), k.bfloat16(), 0.3, weight)
    assert_close(twice, 2 * once)
