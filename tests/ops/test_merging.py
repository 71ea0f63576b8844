# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Merging against loops written from STTM, Sec. 3.2, and ToMe, Sec. 3."""
import math

import pytest
import torch
from torch.testing import assert_close

from mmaction_tokenreduce.ops import (
    bipartite_match,
    correspondence,
    keep_attentive,
    merge,
)


def test_the_most_attended_of_the_picked_in_order_of_place():
    index = torch.tensor([[7, 0, 3, 5], [2, 6, 1, 4]])
    scores = torch.zeros(2, 8)
    scores[0, [7, 0, 3, 5]] = torch.tensor([.1, .4, .2, .3])
    scores[0, 1] = 9  # attended to, but not picked
    assert keep_attentive(index, scores, 2).tolist() == [[0, 5], [1, 2]]
    assert keep_attentive(index, scores, 4).tolist() == [[0, 3, 5, 7], [1, 2, 4, 6]]
    with pytest.raises(ValueError, match='1 <= k <= 4 .the number of picked.*k=5'):
        keep_attentive(index, scores, 5)
    with pytest.raises(ValueError, match='got k=0'):
        keep_attentive(index, scores, 0)


def softmax(values):
    total = sum(math.exp(v) for v in values)
    return [math.exp(v) / total for v in values]


def naive_correspondence(fx, fm, temperature, axes):
    """Eq. 4 element by element, for one row."""
    cosine = [[float(a @ b / a.norm() / b.norm()) for b in fm] for a in fx]
    w = [[c / temperature for c in row] for row in cosine]
    if axes != 'input':
        w = [softmax(row) for row in w]  # over the meta tokens
    if axes == 'meta':
        sums = [sum(column) for column in zip(*w, strict=True)]
        return torch.tensor([[v / s for v, s in zip(row, sums, strict=True)]
                             for row in w])
    if axes == 'both':
        w = [[v / temperature for v in row] for row in w]
    columns = [softmax(column) for column in zip(*w, strict=True)]  # over the inputs
    return torch.tensor(columns).T


@pytest.mark.parametrize('axes', ['both', 'meta', 'input'])
@pytest.mark.parametrize('temperature', [0.1, 1.0])
def test_correspondence_by_elements(axes, temperature):
    fx, fm = torch.randn(2, 6, 5), torch.randn(2, 3, 5)
    out = correspondence(fx, fm, temperature, axes)
    for row in range(2):
        expected = naive_correspondence(fx[row], fm[row], temperature, axes)
        assert_close(out[row], expected, rtol=1e-4, atol=1e-6)
    assert_close(out.sum(1), torch.ones(2, 3))
    assert (out >= 0).all()


def test_outputs_are_convex_combinations():
    x = torch.rand(2, 30, 8)
    c = correspondence(x, x[:, :10])
    y = merge(c, x)
    assert y.shape == (2, 10, 8)
    for row in range(2):
        for j in range(10):
            expected = sum(c[row, i, j] * x[row, i] for i in range(30))
            assert_close(y[row, j], expected)
    assert (y >= x.amin(1, keepdim=True)).all() and (y <= x.amax(1, keepdim=True)).all()
    assert_close(merge(c, torch.ones(1, 30, 1)), torch.ones(2, 10, 1))


def test_why_the_temperature_divides_both_softmaxes():
    """At 1 all outputs coincide (SPEC 2), at 0.1 they do not."""
    x = torch.randn(1, 196, 768)
    spread = [merge(correspondence(x, x[:, :98], t), x).std(1).mean() / x.std(1).mean()
              for t in (1.0, 0.1)]
    assert spread[0] < 1e-3 and spread[1] > 0.5


def test_correspondence_is_float32_under_autocast():
    fx, fm = torch.randn(1, 9, 4), torch.randn(1, 3, 4)
    expected = correspondence(fx, fm)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out = correspondence(fx, fm)
        y = merge(out, fx)
        half = merge(out, fx.bfloat16())
    assert_close(out, expected, rtol=0, atol=0)
    assert_close(y, merge(expected, fx), rtol=0, atol=0)
    assert half.dtype == torch.bfloat16


def test_no_column_is_lost_at_a_low_temperature():
    fx = torch.eye(4)[None]
    fm = torch.tensor([[[1., 0, 0, 0], [-1., 0, 0, 0]]])
    out = correspondence(fx, fm, 1e-3, 'meta')
    assert out.isfinite().all() and correspondence(fx, fm, 1e-3).isfinite().all()


def test_a_zero_token_is_far_from_all_and_gets_no_gradient():
    x = torch.randn(1, 6, 4)
    x[0, 2] = 0
    x.requires_grad_()
    out = correspondence(x, x[:, :4], axes='input')
    assert_close(out[0, :, 2], torch.full((6, ), 1 / 6))
    (out * torch.randn_like(out)).sum().backward()
    assert not x.grad[0, 2].any() and 0.1 < x.grad.abs().max() < 1e3


@pytest.mark.parametrize('arguments,message', [
    (dict(temperature=0), 'temperature=0: must be a finite number above 0'),
    (dict(temperature=math.nan), 'temperature=nan: must be a finite number above 0'),
    (dict(temperature=math.inf), 'temperature=inf: must be a finite number above 0'),
    (dict(temperature='0.1'), "temperature='0.1': must be a finite number above 0"),
    (dict(axes='meat'), "axes='meat': allowed are both, meta, input"),
])
def test_mistakes_in_correspondence(arguments, message):
    with pytest.raises(ValueError, match=message):
        correspondence(torch.randn(1, 4, 2), torch.randn(1, 2, 2), **arguments)


def naive_match(x, r, size):
    """ToMe, Sec. 3, on lists: groups of places, for one row."""
    groups = [[i] for i in range(len(x))]
    while r:
        step = min(r, len(groups) // 2)
        mean = [sum(size[i] * x[i] for i in g) / sum(size[i] for i in g)
                for g in groups]
        links = []
        for a in range(0, len(groups), 2):
            cosines = [float(mean[a] @ mean[b] / mean[a].norm() / mean[b].norm())
                       for b in range(1, len(groups), 2)]
            best = max(range(len(cosines)), key=lambda j: cosines[j])
            links.append((-cosines[best], a, 2 * best + 1))
        for _, a, b in sorted(links)[:step]:
            groups[b] = groups[b] + groups[a]
            groups[a] = None
        groups = [g for g in groups if g is not None]
        r -= step
    return groups


@pytest.mark.parametrize('length,r', [(12, 1), (12, 6), (13, 6), (13, 12), (12, 9),
                                      (7, 0)])
def test_bipartite_matching_by_lists(length, r):
    x, size = torch.randn(3, length, 5), torch.randint(1, 5, (3, length)).float()
    for sizes in (size, None):
        index, weight = bipartite_match(x, r, size=sizes)
        assert index.shape == (3, length - r) and (index.diff(dim=1) > 0).all()
        for row in range(3):
            own = torch.ones(length) if sizes is None else sizes[row]
            groups = naive_match(x[row], r, own)
            expected = torch.zeros(length - r, length)
            for j, group in enumerate(groups):
                expected[j, group] = own[group] / own[group].sum()
                assert index[row, j] == group[0]  # what was merged into
            assert_close(weight[row], expected)


def test_equal_links_go_to_the_lowest_place():
    index, weight = bipartite_match(torch.ones(1, 6, 4), 2)
    assert index.tolist() == [[1, 3, 4, 5]]
    assert_close(weight[0, 0], torch.tensor([1, 1, 1, 0, 0, 0]) / 3)


def test_protected_tokens_stay_alone():
    x = torch.randn(2, 11, 4)
    index, weight = bipartite_match(x, 7, protect=2)
    assert index[:, :2].tolist() == [[0, 1]] * 2
    assert_close(weight[:, :2], torch.eye(11)[:2].expand(2, -1, -1))
    assert not weight[:, 2:, :2].any()
    rest_index, rest_weight = bipartite_match(x[:, 2:], 7)
    assert_close(index[:, 2:], rest_index + 2)
    assert_close(weight[:, 2:, 2:], rest_weight)


def test_nothing_to_remove_is_the_identity():
    x = torch.randn(1, 5, 4, requires_grad=True)
    index, weight = bipartite_match(x, 0)
    assert_close(weight, torch.eye(5)[None])
    assert index.tolist() == [[0, 1, 2, 3, 4]] and not weight.requires_grad


@pytest.mark.parametrize('arguments,message', [
    (dict(r=6), 'r=6: bipartite matching can remove 0 to 5 of 6 tokens, 0 of them'),
    (dict(r=-1), 'r=-1: bipartite matching can remove 0 to 5'),
    (dict(r=3, protect=3), 'r=3: bipartite matching can remove 0 to 2 of 6 tokens'),
    (dict(r=1, protect=7), r'protect=7: must be in \[0, 6\]'),
])
def test_mistakes_in_matching(arguments, message):
    with pytest.raises(ValueError, match=message):
        bipartite_match(torch.randn(1, 6, 2), **arguments)
