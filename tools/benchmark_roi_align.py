# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Time of EVAD's RoIAlign beside mmcv's and beside a matrix product, in one run.

The decoder pools 100 boxes in 8 frames of 14x14x384 at once, their channels side by
side, and takes the largest of 7x7 bins; a stage of the localiser reads 100 boxes from
a pyramid of 256 channels. Weights of bins along rows and columns multiply, so that the
decoder's pooling can be written as a product with interpolation matrices, too. Times
are medians of alternated, warm passes, forwards, and forwards and backwards.
"""
import _checkout  # noqa: F401, I001

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from mmcv.ops import RoIAlign
from torch import Tensor
from torch.testing import assert_close

from mmaction_tokenreduce.ops.roi_align import pyramid_level, roi_align, roi_max

STRIDES = (4, 8, 16, 32)
BINS, SAMPLING = 7, 2


def decoder_here(frames: Tensor, boxes: Tensor) -> Tensor:
    """Frames (1, H, W, C) and boxes (1, N, 4) to the largest bins (N, C)."""
    return roi_max([frames], boxes, (16, ))[0]


def decoder_mmcv(frames: Tensor, boxes: Tensor) -> Tensor:
    rois = torch.cat((torch.zeros(len(boxes[0]), 1), boxes[0]), 1)
    pool = RoIAlign(BINS, 1 / 16, SAMPLING, 'avg', True)
    return pool(frames.permute(0, 3, 1, 2).contiguous(), rois).amax((2, 3))


def decoder_product(frames: Tensor, boxes: Tensor) -> Tensor:
    """Ten boxes at a time, which is the fastest of what was tried."""
    low, high = (boxes[0] / 16 - 0.5).chunk(2, 1)
    columns, rows = (_interpolation(low[:, i], high[:, i], frames.shape[2 - i])
                     for i in range(2))
    matrix = torch.einsum('nph,nqw->npqhw', rows, columns).flatten(3).flatten(1, 2)
    places = frames[0].flatten(0, 1)
    return torch.cat([(part.flatten(0, 1) @ places).unflatten(0, (-1, BINS**2)).amax(1)
                      for part in matrix.split(10)])


def _interpolation(low: Tensor, high: Tensor, cells: int) -> Tensor:
    """(N, 7, cells) weights of cells along one axis in the mean of each bin."""
    count = BINS * SAMPLING
    share = (torch.arange(count) + 0.5) / count
    place = low.unsqueeze(1) + (high - low).unsqueeze(1) * share
    inside = ((place >= -1) & (place <= cells)).unsqueeze(-1)
    away = (place.clamp(0, cells - 1).unsqueeze(-1) - torch.arange(cells)).abs()
    weight = (1 - away).clamp(min=0) * inside
    return weight.unflatten(1, (BINS, SAMPLING)).mean(2)


def stage_here(maps: list[Tensor], boxes: Tensor) -> Tensor:
    """Maps (1, H, W, C) of a pyramid and boxes (1, N, 4) to bins (N, 49, C)."""
    return roi_align(maps, boxes, STRIDES)[0]


def stage_mmcv(maps: list[Tensor], boxes: Tensor) -> Tensor:
    level = pyramid_level(boxes, STRIDES)[0]
    out = boxes.new_zeros(len(boxes[0]), BINS**2, maps[0].shape[-1])
    for i, (image, stride) in enumerate(zip(maps, STRIDES, strict=True)):
        chosen = (level == i).nonzero().squeeze(1)
        if len(chosen):
            rois = torch.cat((torch.zeros(len(chosen), 1), boxes[0, chosen]), 1)
            pool = RoIAlign(BINS, 1 / stride, SAMPLING, 'avg', True)
            bins = pool(image.permute(0, 3, 1, 2).contiguous(), rois)
            out = out.index_put((chosen, ), bins.flatten(2).mT)
    return out


FORMS = {
    'decoder': dict(here=decoder_here, product=decoder_product, mmcv=decoder_mmcv),
    'stage': dict(here=stage_here, mmcv=stage_mmcv),
}


def make_case(part: str, side: int, count: int) -> tuple[Tensor | list[Tensor], Tensor]:
    """Maps of the decoder or a stage, of square frames of ``side``, and boxes."""
    torch.manual_seed(0)
    low = torch.rand(1, count, 2) * 0.7 * side
    boxes = torch.cat((low, low + torch.rand(1, count, 2) * (side - low)), -1)
    if part == 'decoder':
        return torch.randn(1, side // 16, side // 16, 8 * 384), boxes
    return [torch.randn(1, side // s, side // s, 256) for s in STRIDES], boxes


def measure(part: str, side: int, turns: int,
            count: int = 100) -> dict[str, dict[str, float]]:
    """Milliseconds of each form, without and with the backward pass."""
    maps, boxes = make_case(part, side, count)
    want = FORMS[part]['mmcv'](maps, boxes)
    times = {name: ([], []) for name in FORMS[part]}
    for turn in range(turns + 1):
        for name, form in FORMS[part].items():
            spent = _timed(form, maps, boxes, want)
            for values, seconds in zip(times[name], spent, strict=True):
                if turn:  # the first turn warms up
                    values.append(1e3 * seconds)
    return {name: dict(forward=statistics.median(forward),
                       both=statistics.median(both))
            for name, (forward, both) in times.items()}


def _timed(form: Callable, maps: Tensor | list[Tensor], boxes: Tensor,
           want: Tensor) -> tuple[float, float]:
    start = time.perf_counter()
    with torch.no_grad():
        found = form(maps, boxes)
    forward = time.perf_counter() - start
    assert_close(found, want, rtol=1e-4, atol=1e-4)
    leaves = [m.clone().requires_grad_() for m in (
        maps if isinstance(maps, list) else [maps])]
    start = time.perf_counter()
    form(leaves if isinstance(maps, list) else leaves[0], boxes).sum().backward()
    return forward, time.perf_counter() - start


def main() -> None:
    """Run tools/benchmark_roi_align.py."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--side', type=int, default=224, help='of the frames')
    parser.add_argument('--turns', type=int, default=7)
    parser.add_argument('--json', action='store_true')
    args = parser.parse_args()
    result = {part: measure(part, args.side, args.turns) for part in FORMS}
    if args.json:
        print(json.dumps(result))
        return
    print(f'{args.side}x{args.side}, {torch.get_num_threads()} threads, ms forwards, '
          'and forwards and backwards')
    for part, forms in result.items():
        for name, row in forms.items():
            print(f'{part:>8} {name:>8}: {row["forward"]:8.1f} {row["both"]:8.1f}')


if __name__ == '__main__':
    main()
