# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""The orthogonal selection against the paper's greedy loop (STTM, Sec. 3.2.1)."""
import os
import subprocess
import sys

import pytest
import torch
from torch.testing import assert_close

from mmaction_tokenreduce.ops import orthogonal_select
from mmaction_tokenreduce.ops.orthogonal import greedy_loop


def naive(x, k, first, mask=None):
    """Each next token: smallest of the largest |cosines| to those picked; one row."""
    picked = [int(first)]
    while len(picked) < k:
        best, best_worst = None, None
        for i in range(len(x)):
            if i in picked or (mask is not None and not mask[i]):
                continue
            worst = 0.0
            for j in picked:
                norms = float(x[i].norm() * x[j].norm())
                cosine = abs(float(x[i] @ x[j])) / norms if norms else 0.0
                worst = max(worst, cosine)
            if best is None or worst < best_worst:
                best, best_worst = i, worst
        picked.append(best)
    return picked


def naive_rows(x, k, first, mask=None):
    masks = [None] * len(x) if mask is None else mask
    return torch.tensor([naive(row, k, start, row_mask) for row, start, row_mask
                         in zip(x, first, masks, strict=True)])


def signs(*shape):
    """Tokens whose cosines are exact in floating point: ties are real ties."""
    return torch.randint(2, shape).float() * 2 - 1


def test_it_is_the_greedy_loop():
    x, first = torch.randn(3, 24, 6).double(), torch.tensor([5, 0, 23])
    assert_close(orthogonal_select(x, 20, first), naive_rows(x, 20, first))
    assert_close(orthogonal_select(x, 1, first), first.unsqueeze(1))


def test_a_worked_example():
    angles = torch.tensor([0., 10., 80., 45., 90.]).deg2rad()
    x = torch.stack((angles.cos(), -angles.sin()), dim=-1).unsqueeze(0)
    picked = orthogonal_select(x, 5, torch.tensor([0]))
    # After 0 and 90 degrees: 45 is 45 from both; then 10 and 80 are 10 from one, and
    # of two so equal that rounding decides either may come first.
    assert picked[0, :3].tolist() == [0, 4, 3]
    assert sorted(picked[0, 3:].tolist()) == [1, 2]


def test_equal_cosines_go_to_the_lowest_index():
    x, first = signs(4, 20, 4), torch.tensor([3, 0, 19, 7])  # at most 8 directions
    assert_close(orthogonal_select(x, 20, first), naive_rows(x, 20, first))


def test_duplicates_and_zero_tokens():
    x = signs(3, 16, 4)
    x[0, 4:8] = x[0, 9]
    x[1, 2] = x[1, 11] = 0
    x[2] = 0
    first = torch.tensor([9, 2, 5])
    picked = orthogonal_select(x, 16, first)
    assert_close(picked, naive_rows(x, 16, first))
    assert picked[1, 1] == 0 and picked[2].tolist() == [5, *range(5), *range(6, 16)]
    # A zero token is far from all: it comes right after the first.
    assert orthogonal_select(x[1:2], 2, torch.tensor([0]))[0, 1] == 2
    assert all(len(set(row)) == 16 for row in picked.tolist())


def test_masked_tokens_are_never_picked():
    x, mask = signs(3, 18, 4), torch.rand(3, 18) > 0.4
    count = int(mask.sum(1).min())
    first = torch.stack([row.nonzero()[1, 0] for row in mask])
    picked = orthogonal_select(x, count, first, mask=mask)
    assert_close(picked, naive_rows(x, count, first, mask))
    for _ in range(20):
        drawn = orthogonal_select(x, count, mask=mask)
        assert mask.gather(1, drawn).all()
    with pytest.raises(ValueError, match=f'1 <= k <= {count} .what the mask leaves'):
        orthogonal_select(x, count + 1, mask=mask)
    with pytest.raises(ValueError, match='the mask forbids one of them'):
        orthogonal_select(x, 1, (~mask).long().argmax(1), mask=mask)


def test_the_first_token_is_drawn_by_the_generator():
    x, seen = torch.randn(200, 5, 8), torch.Generator().manual_seed(1)
    picked = orthogonal_select(x, 2, generator=seen)
    again = orthogonal_select(x, 2, generator=torch.Generator().manual_seed(1))
    assert_close(picked, again)
    assert_close(picked, naive_rows(x, 2, picked[:, 0]))
    counts = picked[:, 0].bincount(minlength=5)
    assert counts.min() > 15, counts  # 40 expected of each
    other = orthogonal_select(x, 2)  # the global generator
    assert (other != picked).any()


def test_a_token_of_nan_is_picked_last():
    x = torch.randn(1, 8, 4)
    x[0, 3] = torch.nan
    assert orthogonal_select(x, 8, torch.tensor([0]))[0, -1] == 3


def test_float32_whatever_the_autocast_state():
    x, first = torch.randn(2, 40, 16), torch.tensor([1, 2])
    plain = orthogonal_select(x, 30, first)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert_close(orthogonal_select(x.requires_grad_(), 30, first), plain)
    half = x.detach().bfloat16()
    assert_close(orthogonal_select(half, 30, first),
                 orthogonal_select(half.float(), 30, first))


def test_the_operator_serves_compilers_and_tracers():
    x, first = torch.randn(2, 12, 4), torch.tensor([1, 2])
    near = torch.rand(2, 12, 12)
    near.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    operator = torch.ops.mmaction_tokenreduce.greedy_pick
    torch.library.opcheck(operator.default, (near, first, 7))
    expected = orthogonal_select(x, 9, first)
    compiled = torch.compile(orthogonal_select, backend='eager', fullgraph=True)
    assert_close(compiled(x, 9, first), expected)


@pytest.mark.parametrize('arguments,message', [
    (dict(x=torch.zeros(4, 3), k=1), r'x must be \(R, L, D\), got shape \(4, 3\)'),
    (dict(k=0), r'1 <= k <= 5 \(the number of tokens\), got k=0'),
    (dict(k=6), r'1 <= k <= 5 \(the number of tokens\), got k=6'),
    (dict(first=torch.zeros(3)), r'first must be \(R,\)'),
    (dict(first=torch.tensor([0, 5])), r'first=\[0, 5\]: must be in \[0, 5\)'),
    (dict(first=torch.tensor([0, 5]), mask=torch.ones(2, 5, dtype=torch.bool)),
     r'first=\[0, 5\]: must be in \[0, 5\)'),
    (dict(first=torch.tensor([-1, 0]), mask=torch.ones(2, 5, dtype=torch.bool)),
     r'first=\[-1, 0\]: must be in \[0, 5\)'),
    (dict(mask=torch.ones(2, 5)), r'mask must be bool \(R, L\)'),
    (dict(mask=torch.ones(5, 2, dtype=torch.bool)), r'mask must be bool \(R, L\)'),
])
def test_mistakes(arguments, message):
    with pytest.raises(ValueError, match=message):
        orthogonal_select(**dict(dict(x=torch.randn(2, 5, 3), k=2), **arguments))


KERNEL = '''
import os, sys, torch
from mmaction_tokenreduce.ops.orthogonal import greedy_loop
from mmaction_tokenreduce.ops.orthogonal_triton import greedy_kernel
device = sys.argv[1]
for rows, length, k in ((2, 5, 5), (3, 37, 30), (1, 9, 1), (2, 300, 40)):
    near = (torch.rand(rows, length, length) * 50).round() / 50  # many ties
    near.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    near[:, :, 3] = torch.inf  # a masked token
    near, first = near.to(device), torch.randint(3, (rows,)).to(device)
    k = min(k, length - 1)
    expected = greedy_loop(near.cpu(), first.cpu(), k)
    assert torch.equal(greedy_kernel(near, first, k).cpu(), expected)
    assert torch.equal(greedy_loop(near, first, k).cpu(), expected)
'''


@pytest.mark.parametrize('device', ['cpu', 'cuda'])
def test_the_kernel_picks_what_the_loop_picks(device, repo_dir):
    """On a CPU in Triton's interpreter, on a GPU compiled."""
    pytest.importorskip('triton', reason='needs Triton, which is not installed')
    if device == 'cuda' and not torch.cuda.is_available():
        pytest.skip('needs a CUDA device')
    interpret = {'cpu': '1', 'cuda': '0'}[device]
    done = subprocess.run([sys.executable, '-c', KERNEL, device], cwd=repo_dir,
                          env=dict(os.environ, TRITON_INTERPRET=interpret), text=True,
                          capture_output=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_the_same_picks_on_a_gpu():
    x, first = signs(3, 50, 16), torch.tensor([0, 7, 49])  # exact cosines
    picked = orthogonal_select(x.cuda(), 40, first.cuda())
    assert_close(picked.cpu(), orthogonal_select(x, 40, first))


def test_the_loop_leaves_its_input_alone():
    near = torch.rand(2, 6, 6)
    near.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    before, first = near.clone(), torch.tensor([1, 2])
    greedy_loop(near, first, 6)
    assert_close(near, before)
    assert_close(first, torch.tensor([1, 2]))
