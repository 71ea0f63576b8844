# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Time and memory of perturbed top-K beside its plain one-hot form, in one run.

The plain form holds B x n x K x L one-hot values and keeps them for backward, as the
released code does; both forms compute the same indicators and the same gradient.
Times are medians of alternated, warm forward + backward passes. Memory is the growth
of the peak resident size of a fresh process over one such pass.
"""
import argparse
import json
import statistics
import time
from multiprocessing import get_context
from pathlib import Path

import _checkout  # noqa: F401
import torch
from torch import Tensor

from mmaction_tokenreduce.ops import perturbed_topk

SIGMA = 0.1


class OneHotTopK(torch.autograd.Function):
    """Eq. 7 and 8 written with one-hot rows; the baseline of this benchmark."""

    @staticmethod
    def forward(ctx, scores: Tensor, noise: Tensor, k: int) -> Tensor:
        noisy = scores.unsqueeze(1) + SIGMA * noise
        index = noisy.topk(k, sorted=False).indices.sort(dim=-1).values
        one_hot = torch.nn.functional.one_hot(index, scores.shape[1]).float()
        ctx.save_for_backward(one_hot, noise)
        return one_hot.mean(dim=1)

    @staticmethod
    def backward(ctx, grad: Tensor):
        one_hot, noise = ctx.saved_tensors
        loss = torch.einsum('bkl,bnkl->bn', grad, one_hot)
        loss = loss - loss.mean(dim=1, keepdim=True)
        total = torch.einsum('bn,bnl->bl', loss, noise)
        return total / (SIGMA * (noise.shape[1] - 1)), None, None


def one_hot_topk(scores: Tensor, k: int, noise: Tensor) -> Tensor:
    return OneHotTopK.apply(scores, noise, k)


def counting_topk(scores: Tensor, k: int, noise: Tensor) -> Tensor:
    return perturbed_topk(scores, k, SIGMA, noise=noise)


FORMS = {'one-hot': one_hot_topk, 'here': counting_topk}


def run(form: str, scores: Tensor, k: int, noise: Tensor, grad: Tensor) -> Tensor:
    """One forward and backward pass; returns the gradient of the scores."""
    leaf = scores.clone().requires_grad_()
    FORMS[form](leaf, k, noise).backward(grad)
    return leaf.grad


def make_case(args: argparse.Namespace) -> tuple[Tensor, int, Tensor, Tensor]:
    torch.manual_seed(0)
    scores = torch.rand(args.batch, args.length)
    noise = torch.randn(args.batch, args.samples, args.length)
    return scores, args.k, noise, torch.randn(args.batch, args.k, args.length)


def peak_megabytes(form: str, args: argparse.Namespace) -> float:
    """Growth of this process' peak resident size; call it in a fresh process."""
    case = make_case(args)
    tiny = argparse.Namespace(batch=1, samples=4, length=8, k=3)
    run(form, *make_case(tiny))  # load the libraries first
    before = peak_resident_kib()
    run(form, *case)
    return (peak_resident_kib() - before) / 1024


def peak_resident_kib() -> int:
    """High-water mark of this process (getrusage would start at the parent's)."""
    status = Path('/proc/self/status').read_text()
    return int(status.split('VmHWM:')[1].split()[0])


def measure(args: argparse.Namespace) -> dict:
    """Medians (ms), peaks (MB) and their ratios."""
    case = make_case(args)
    torch.testing.assert_close(run('here', *case), run('one-hot', *case), rtol=1e-3,
                               atol=1e-4)
    times = {form: [] for form in FORMS}
    for turn in range(args.repeats + 1):
        for form in FORMS:
            start = time.perf_counter()
            run(form, *case)
            if turn:  # the first turn warms up
                times[form].append(1e3 * (time.perf_counter() - start))
    result = {'ms': {form: statistics.median(times[form]) for form in FORMS}}
    with get_context('spawn').Pool(1, maxtasksperchild=1) as pool:
        result['MB'] = {form: pool.apply(peak_megabytes, (form, args))
                        for form in FORMS}
    result['times_faster'] = result['ms']['one-hot'] / result['ms']['here']
    result['share_of_memory'] = result['MB']['here'] / result['MB']['one-hot']
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--batch', type=int, default=16)
    parser.add_argument('--length', type=int, default=196, help='candidates L')
    parser.add_argument('--k', type=int, default=98, help='kept K')
    parser.add_argument('--samples', type=int, default=500, help='noise draws n')
    parser.add_argument('--repeats', type=int, default=9)
    parser.add_argument('--json', action='store_true')
    args = parser.parse_args()
    result = measure(args)
    if args.json:
        print(json.dumps(result))
        return
    print(f'perturbed top-K, B={args.batch} L={args.length} K={args.k} '
          f'n={args.samples}, forward + backward, {torch.get_num_threads()} threads')
    for form in FORMS:
        print(f'{form:>8}: {result["ms"][form]:8.1f} ms  {result["MB"][form]:8.1f} MB')
    print(f'{result["times_faster"]:.1f} times faster, '
          f'{result["share_of_memory"]:.3f} of the memory')


if __name__ == '__main__':
    main()
