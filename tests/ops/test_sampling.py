# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Sums of bilinear samples against grid_sample and a loop."""
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from mmaction_tokenreduce.ops.sampling import query_places, sum_of_samples

H, W, C = 3, 5, 4


def test_worked_example():
    maps = torch.arange(float(H * W)).view(1, H, W, 1)  # W * y + x
    points = torch.tensor([[1.0, 2.0], [1.25, 0.5], [-0.5, 0.0], [4.5, 2.0], [9., -9.],
                           [4.0, 2.0], [-1.0, 3.0]])
    got = sum_of_samples(maps, *points[:, None, None].unbind(-1), torch.ones(7, 1, 1),
                         torch.zeros(1, dtype=torch.long))
    # On a place; between four; half outside on the left of 0; right of 14; far outside;
    # in the last corner; on the border of zeros.
    assert_close(got, torch.tensor([[11.], [3.75], [0.], [7.], [0.], [14.], [0.]]))


def test_equals_grid_sample_with_zeros_around():
    torch.manual_seed(0)
    maps = torch.randn(2, H, W, C, requires_grad=True)
    points = (torch.rand(6, 2, 3, 2) * 9 - 2).requires_grad_()  # 2 heads, 3 samples
    weight = torch.randn(6, 2, 3, requires_grad=True)
    index = torch.tensor([0, 0, 1, 1, 0, 1]).view(6, 1, 1)
    heads = []
    for h in range(2):
        images = maps[index.flatten(), ..., 2 * h:2 * h + 2].permute(0, 3, 1, 2)
        grid = (points[:, h] + 0.5) * 2 / torch.tensor([W, H]) - 1
        samples = F.grid_sample(images, grid.unsqueeze(1), align_corners=False)
        heads.append((samples[:, :, 0] * weight[:, h].unsqueeze(1)).sum(-1))
    want = torch.cat(heads, -1)
    got = sum_of_samples(maps, *points.unbind(-1), weight, index)
    assert_close(got, want, rtol=1e-4, atol=1e-5)
    loss = torch.randn(6, C)
    parts = (maps, points, weight)
    for a, b in zip(torch.autograd.grad((got * loss).sum(), parts),
                    torch.autograd.grad((want * loss).sum(), parts), strict=True):
        assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_gradients_on_a_place_are_those_to_the_right():
    """But for those that touch the map from outside."""
    maps = (1 + torch.arange(15.)).square().view(1, H, W, 1)
    index, weight = torch.zeros(1, dtype=torch.long), torch.ones(1, 1, 1)
    for x, y in ((0., 0.), (2., 1.), (4., 2.), (-1., 1.), (W, 1.), (2., -1.), (2., H)):
        places = [torch.full((1, 1, 1), float(v), requires_grad=True) for v in (x, y)]
        at = sum_of_samples(maps, *places, weight, index)
        got = torch.autograd.grad(at.sum(), places)
        for axis, gradient in enumerate(got):
            moved = [place.detach().clone() for place in places]
            step = -1 / 64 if (x, y)[axis] in (-1, (W, H)[axis]) else 1 / 64
            moved[axis] += step
            slope = (sum_of_samples(maps, *moved, weight, index) - at) / step
            assert_close(gradient.item(), slope.item(), rtol=1e-3, atol=1e-2)


def test_places_at_infinity_count_nothing():
    maps, ends = torch.ones(1, H, W, C), torch.tensor([-torch.inf, torch.inf])
    x, y = ends.view(2, 1, 1), torch.zeros(2, 1, 1)
    index, weight = torch.zeros(1, dtype=torch.long), torch.ones(2, 1, 1)
    for place in ((x, y), (y, x)):
        assert_close(sum_of_samples(maps, *place, weight, index), torch.zeros(2, C))


def test_planes_need_not_be_contiguous():
    maps, index = torch.randn(2, H, W, C), torch.zeros(1, dtype=torch.long)
    x, y, weight = torch.rand(3, 7, 2, 3, 5).permute(0, 1, 4, 2, 3)  # (7, 5, 2, 3) each
    want = sum_of_samples(maps, x.contiguous(), y.contiguous(), weight, index)
    assert_close(sum_of_samples(maps, x, y, weight, index), want)


def test_each_sample_has_its_map_and_weight():
    maps = torch.randn(3, 1, 1, C)
    index = torch.tensor([[0, 2, 2], [1, 1, 0]]).unsqueeze(1)
    weight = torch.tensor([[0.5, 1.0, -2.0], [0.0, 1.0, 0.25]]).unsqueeze(1)
    got = sum_of_samples(maps, *torch.zeros(2, 2, 1, 3), weight, index)
    want = torch.stack([sum(weight[m, 0, k] * maps[index[m, 0, k], 0, 0]
                            for k in range(3)) for m in range(2)])
    assert_close(got, want)


def test_sums_stay_exact_under_autocast():
    maps, points = torch.randn(1, H, W, C), torch.rand(5, 1, 3, 2) * 4
    weight, index = torch.randn(5, 1, 3), torch.zeros(1, dtype=torch.long)
    want = sum_of_samples(maps, *points.unbind(-1), weight, index)
    with torch.autocast('cpu', torch.bfloat16):
        got = sum_of_samples(maps, *points.unbind(-1), weight, index)
        half = sum_of_samples(maps.bfloat16(), *points.unbind(-1), weight, index)
    assert_close(got, want, rtol=0, atol=0)
    assert half.dtype == torch.bfloat16


def test_query_places_step_over_a_finer_grid():
    want = torch.tensor([[0., 0.], [2., 0.], [4., 0.], [0., 2.], [2., 2.], [4., 2.]])
    assert_close(query_places((2, 3), 2, torch.device('cpu')), want)
