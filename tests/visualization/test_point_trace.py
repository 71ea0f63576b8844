# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""The points that a query samples, seen through hooks."""
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmaction_tokenreduce.layers.deformable_attention import DeformableAttention
from mmaction_tokenreduce.models import DVTMViT, DVTTimeSformer
from mmaction_tokenreduce.visualization import PointTrace, moving_place

MVIT = dict(arch=dict(embed_dims=8, num_layers=4, num_heads=1,
                      downscale_indices=[1, 3]),
            spatial_size=32, temporal_size=8, separable_pos_embed=True, sub_clips=2)
VIT = dict(num_frames=8, img_size=32, patch_size=8, embed_dims=24, num_heads=3,
           num_transformer_layers=2, sub_clips=2)
FIRST = {DVTMViT: 0., DVTTimeSformer: 3.5}  # centre of the first patch in pixels
HOSTS = pytest.mark.parametrize('host, options', [(DVTMViT, MVIT),
                                                  (DVTTimeSformer, VIT)])


def attentions(model):
    return [m for m in model.modules() if isinstance(m, DeformableAttention)]


def motion_led(model):
    """Weights with which points go where motion leads, on their rings around it."""
    for name, parameter in model.named_parameters():
        # Queries are normalised tokens, or pooled ones: nought then.
        if 'norm1' in name or 'norms.0' in name or 'norm_q' in name:
            torch.nn.init.zeros_(parameter)
    cell = model.patch_embed.projection.stride[-1]
    for attention in attentions(model):
        choose = attention.space_time.choose
        torch.nn.init.zeros_(choose.weight.weight)
        torch.nn.init.zeros_(choose.offset.weight)
        torch.nn.init.zeros_(choose.embed.weight)
        maps = choose.offset.weight.data.unflatten(0, (-1, 2))
        for axis in (0, 1):
            choose.embed.weight.data[axis, axis] = 1 / choose.embed.weight[0, 0].numel()
            maps[:, axis, axis] = 16. / cell  # motion_unit
        if getattr(attention, 'pool_q', None) is not None:
            cell *= attention.pool_q.stride[-1]
    return model.eval()


@HOSTS
def test_points_that_motion_leads_lie_where_the_content_is(host, options):
    model = motion_led(host(**options, attention='st'))
    step = torch.tensor([1.5, -2.5])  # px from a sampled frame to the one before
    motion = step.view(1, 2, 1, 1, 1).expand(2, -1, 8, 8, 8)
    with torch.inference_mode(), PointTrace(model) as trace:
        model(torch.randn(2, 3, 8, 32, 32), motion)
    assert trace.num_frames == 4 and trace.sub_clip == 2
    for block in range(trace.num_blocks):
        for frame, frames in ((3, (2, 3)), (2, (2, 3)), (0, (0, 1))):
            (part, ) = trace.points(block, 1, frame, (13, 22))
            assert part.kind == 'D-ST-A' and part.frames == frames
            assert len(set(part.cells)) == 1
            side = part.cells[0][0]
            heads = len(part.xy)
            for head in range(heads):
                radius = 2 * (head + 1) / heads * side
                for i, other in enumerate(frames):
                    moved = (frame - other) * 2 * step  # a token frame is two sampled
                    for n in range(8):
                        ring = radius * torch.tensor([math.cos(n * math.pi / 4),
                                                      math.sin(n * math.pi / 4)])
                        want = torch.from_numpy(part.query) + ring + moved
                        np.testing.assert_allclose(part.xy[head, i, n], want, atol=1e-3)
            np.testing.assert_allclose(part.weight, part.equal_share, atol=1e-6)
            assert part.equal_share == 1 / 16
            np.testing.assert_allclose(part.shares, 0.5, atol=1e-6)
            want = [((frame - other) * 2 * step).tolist() for other in frames]
            np.testing.assert_allclose(part.offsets, want, atol=1e-3)


def test_the_nearest_query_of_each_grid():
    model = motion_led(DVTMViT(**MVIT))
    with torch.inference_mode(), PointTrace(model) as trace:
        model(torch.randn(1, 3, 8, 32, 32), torch.zeros(1, 2, 8, 8, 8))
    # Grids of 4, 8, 8 and 16 px with a query on their first pixel; sampled is the grid
    # before the block pools.
    for block, query, patch, cell in ((0, (24, 12), 4, 4), (1, (24, 16), 8, 4),
                                      (2, (24, 16), 8, 8), (3, (16, 16), 16, 8)):
        (part, ) = trace.points(block, 0, 1, (13, 23))
        assert tuple(part.query) == query and part.patch == (patch, patch)
        assert part.cells == ((cell, cell), (cell, cell))


def bilinear(table, x, y):
    """A map (h, w, C) at a place in cells, zero outside."""
    total = torch.zeros(table.shape[-1])
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < table.shape[0] and 0 <= column < table.shape[1]:
                total += ((1 - abs(y - row)) * (1 - abs(x - column))
                          * table[row, column])
    return total


@HOSTS
@torch.no_grad()
def test_what_is_shown_is_what_is_summed(host, options):
    """Samples at the shown places, by the shown weights, are what attention gives."""
    size = dict(img_size=(32, 48)) if host is DVTTimeSformer else {}
    model = host(**{**options, **size}, attention='st+ms')
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.25)
    calls = {}
    for attention in attentions(model):
        for part in (attention.space_time, attention.multi_scale):
            part.register_forward_hook(
                lambda module, args, out: calls.update({module: (args, out)}))
    with PointTrace(model.eval()) as trace:
        model(torch.randn(1, 3, 8, 32, 48), torch.randn(1, 2, 8, 8, 12) * 4)
    frame, lost = 2, 0
    for block, attention in enumerate(attentions(model)):
        shown = trace.points(block, 0, frame, (12, 44))
        assert [part.kind for part in shown] == ['D-ST-A', 'D-MS-A']
        for part, module in zip(shown, (attention.space_time, attention.multi_scale),
                                strict=True):
            (x, query, base, *_), out = calls[module]
            maps = [x[0, other] for other in part.frames]
            if part.kind == 'D-MS-A':
                pooled = F.conv3d(x.permute(0, 4, 1, 2, 3), module.pool.weight, None,
                                  module.pool.stride, 1, groups=x.shape[-1])
                maps[1] = pooled[0, :, frame].permute(1, 2, 0)
            sums = torch.zeros(out.shape[-1])
            heads, _, points = part.weight.shape
            for head in range(heads):
                channels = slice(head * len(sums) // heads,
                                 (head + 1) * len(sums) // heads)
                for i, table in enumerate(maps):
                    value = module.value(table)[..., channels]
                    for n in range(points):
                        column, row = (part.xy[head, i, n] - FIRST[host]) / (
                            part.cells[i][0])
                        sample = bilinear(value, float(column), float(row))
                        sums[channels] += float(part.weight[head, i, n]) * sample
                        gone = not bilinear(torch.ones(*table.shape[:2], len(sums)),
                                            float(column), float(row)).any()
                        assert part.outside[head, i, n] == gone
                        lost += gone
            grid = (base if base.dim() == 2 else base[0]) * part.cells[0][0]
            place = torch.from_numpy(part.query) - FIRST[host]
            number = int((grid - place).abs().sum(-1).argmin())
            want = module.proj(sums)
            torch.testing.assert_close(out[0, frame, number], want, rtol=1e-3,
                                       atol=1e-3)
    assert lost


def test_one_head():
    model = motion_led(DVTTimeSformer(**VIT, attention='st'))
    with torch.inference_mode(), PointTrace(model) as trace:
        model(torch.randn(1, 3, 8, 32, 32), torch.zeros(1, 2, 8, 8, 8))
    (part, ) = trace.points(0, 0, 0, (0, 0))
    one = part.head(1)
    assert one.xy.shape == (1, 2, 8, 2)
    np.testing.assert_array_equal(one.xy, part.xy[1:2])
    np.testing.assert_array_equal(one.outside, part.outside[1:2])
    for number in (3, -1):
        with pytest.raises(ValueError, match=f'head {number}: D-ST-A has 3 heads here'):
            part.head(number)


def test_attention_over_scales_alone_knows_one_frame():
    model = DVTMViT(**MVIT, attention='ms').eval()
    with torch.inference_mode(), PointTrace(model, [0, 3]) as trace:
        model(torch.randn(1, 3, 8, 32, 32))
    assert trace.sub_clip == 1 and trace.num_frames == 4
    (part, ) = trace.points(0, 0, 3, (0, 0))
    assert part.kind == 'D-MS-A' and part.frames == (3, 3)
    assert part.cells == ((4, 4), (32, 32))  # scale_stride 8
    assert trace.points(3, 0, 3, (0, 0))[0].cells == ((8, 8), (16, 16))  # halved once


def test_mistakes():
    model = DVTMViT(**MVIT).eval()
    with pytest.raises(ValueError, match='Linear holds no deformable attention'):
        PointTrace(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match='block 4: the model has 4 blocks, 0 to 3'):
        PointTrace(model, [0, 4])
    trace = PointTrace(model, [1])
    args = torch.randn(1, 3, 8, 32, 32), torch.zeros(1, 2, 8, 8, 8)
    with pytest.raises(ValueError, match='0 calls of 1 attentions'):
        trace.num_frames  # noqa: B018
    with torch.inference_mode(), trace:
        model(*args)
    for arguments, words in (((0, 0, 0), 'block 0 was not watched'),
                             ((1, 1, 0), 'sample 1: the batch had 1 clips'),
                             ((1, 0, 4), 'token frame 4: the clip has 4, 0 to 3')):
        with pytest.raises(ValueError, match=words):
            trace.points(*arguments, (0, 0))
    with torch.inference_mode(), trace:
        model(*args)
    with pytest.raises(ValueError, match='2 calls of 1 attentions'):
        trace.points(1, 0, 0, (0, 0))
    trace.clear()
    model(*args)  # no hook is left
    with pytest.raises(ValueError, match='0 calls'):
        trace.points(1, 0, 0, (0, 0))


def test_place_that_moves_most():
    field = torch.zeros(2, 16, 32)
    assert moving_place(field, (64, 128)) is None
    field[0] = 5.  # the camera
    assert moving_place(field, (64, 128)) is None
    field[0, 6:8, 10:14] = -1.  # two of 16 rows, four of 32 columns: one window
    assert moving_place(field, (64, 128)) == (28, 48)
    field[1, 9, 20] = 20.  # a lone wild vector: 20 / 8 less than 6
    assert moving_place(field, (64, 128)) == (28, 48)
    field[1, :2] = 90.  # at the rim
    assert moving_place(field, (64, 128)) == (28, 48)


def test_middle_of_what_moves():
    field = torch.zeros(2, 16, 16)
    field[0, 4:9, 5:12] = 3.  # cells of 4 px; windows of two cells have their middles
    assert moving_place(field, (64, 64)) in ((24, 32), (24, 36), (28, 32), (28, 36))
