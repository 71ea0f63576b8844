# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""All steps of the greedy selection in one CUDA kernel (see ``orthogonal.py``).

As a loop of PyTorch operations the selection is bound by launches: four for each of
hundreds of steps. Here one program serves one row and keeps the running maximum in
registers. Triton rather than a captured CUDA graph of the loop: a graph would still
start every small kernel, and would need static buffers for each shape.

On an H200 (Triton 3.6) it made the same picks as the loop; see docs/performance.md.
"""
import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ['greedy_kernel']


@triton.jit
def _greedy_rows(near, first, picked, length, k, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    near += row * length * length
    picked += row * k
    place = tl.arange(0, BLOCK)
    inside = place < length
    token = tl.load(first + row)
    tl.store(picked, token)
    worst = tl.where(inside, 0.0, float('inf'))  # what pads the block is never picked
    for step in range(1, k):
        cosines = tl.load(near + token * length + place, mask=inside, other=0.0)
        worst = tl.maximum(worst, cosines)
        token = tl.argmin(worst, 0, tie_break_left=True).to(tl.int64)
        tl.store(picked + step, token)


def greedy_kernel(near: Tensor, first: Tensor, k: int) -> Tensor:
    """The picks of :func:`mmaction_tokenreduce.ops.orthogonal.greedy_loop`.

    Args:
        near: (R, L, L) float32 |cosines|, infinite on the diagonal, no NaN.
        first: (R,) int64, each in [0, L).
        k: Number of tokens to pick.

    Returns:
        (R, k) int64, in the order of picking.
    """
    rows, length, _ = near.shape
    picked = torch.empty(rows, k, dtype=torch.long, device=near.device)
    block = triton.next_power_of_2(length)
    with torch.cuda.device_of(near):  # Triton launches on the current device
        _greedy_rows[(rows,)](near.contiguous(), first.contiguous(), picked, length, k,
                              BLOCK=block, num_warps=min(max(block // 256, 1), 8))
    return picked
