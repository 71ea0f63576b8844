# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Sums of bilinear samples against grid_sample and a loop."""
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from mmaction_tokenreduce.ops.sampling import bilinear_rows, grid_points, sum_of_rows

H, W, C = 3, 5, 4


def samples(table, points):
    rows, share = bilinear_rows(points, (H, W))
    return sum_of_rows(table, rows, share)


def test_worked_example():
    table = torch.arange(float(H * W)).unsqueeze(1)  # row-major: value = W * y + x
    points = torch.tensor([[1.0, 2.0], [1.25, 0.5], [-0.5, 0.0], [4.5, 2.0], [9., 9.]])
    # on a place; between four; half outside on the left of 0; right of 14; far outside
    want = torch.tensor([[11.0], [3.75], [0.0], [7.0], [0.0]])
    assert_close(samples(table, points), want)


def test_equals_grid_sample_with_zeros_around():
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(H * W, C, generator=generator, dtype=torch.float64)
    points = torch.rand(64, 2, generator=generator, dtype=torch.float64) * 9 - 2
    table.requires_grad_(), points.requires_grad_()
    # float32 inside: compare values to its precision
    maps = table.T.reshape(1, C, H, W)
    grid = (points + 0.5) * 2 / torch.tensor([W, H]) - 1
    want = F.grid_sample(maps, grid.view(1, 1, -1, 2), align_corners=False)[0, :, 0].T
    got = samples(table, points)
    assert_close(got, want, rtol=1e-5, atol=1e-5)
    loss = torch.randn(64, C, generator=generator, dtype=torch.float64)
    for a, b in zip(torch.autograd.grad((got * loss).sum(), (table, points)),
                    torch.autograd.grad((want * loss).sum(), (table, points)),
                    strict=True):
        assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_sums_are_weighted():
    table = torch.randn(7, C)
    rows = torch.tensor([[0, 3, 3], [6, 1, 0]])
    weights = torch.tensor([[0.5, 1.0, -2.0], [0.0, 1.0, 0.25]])
    want = torch.stack([
        sum(weights[m, k] * table[rows[m, k]] for k in range(3)) for m in range(2)])
    assert_close(sum_of_rows(table, rows, weights), want)


def test_sums_stay_exact_under_autocast():
    table = torch.randn(7, C)
    rows, weights = torch.randint(7, (2, 3)), torch.randn(2, 3)
    with torch.autocast('cpu', torch.bfloat16):
        got = sum_of_rows(table, rows, weights)
        half = sum_of_rows(table.bfloat16(), rows, weights)
    assert_close(got, sum_of_rows(table, rows, weights), rtol=0, atol=0)
    assert half.dtype == torch.bfloat16


def test_grid_points_step_over_a_finer_grid():
    want = torch.tensor([[0., 0.], [2., 0.], [4., 0.], [0., 2.], [2., 2.], [4., 2.]])
    assert_close(grid_points((2, 3), 2, torch.device('cpu')), want)
