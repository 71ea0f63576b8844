# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Rate of linear layers on this CPU by the ways that ``ops.linear`` chooses among.

In billions of multiply-adds a second, medians of alternated, warm forward passes in
float32: ``F.linear`` (MKL in PyTorch's builds for x86), the same product as a 1x1
convolution (oneDNN), and what ``ops.linear`` takes.
"""
import argparse
import json
import statistics

import _checkout  # noqa: F401
import torch
import torch.nn.functional as F

from mmaction_tokenreduce.evaluation import time_in_turns
from mmaction_tokenreduce.ops import linear
from mmaction_tokenreduce.ops.linear import by_convolution

# Tokens, channels before and after: MLPs of MViT-B's last three stages, of ViT-B.
SIZES = ((6272, 192, 768), (1568, 384, 1536), (1568, 1536, 384), (392, 768, 3072),
         (392, 3072, 768), (1568, 768, 3072), (1568, 3072, 768))
FORMS = ('F.linear', '1x1 convolution', 'here')


@torch.inference_mode()
def measure(size: tuple[int, int, int], turns: int) -> dict[str, float]:
    """Rates of one size by form."""
    tokens, channels, out = size
    args = (torch.randn(tokens, channels), torch.randn(out, channels), torch.randn(out))
    calls = dict(zip(FORMS, (lambda: F.linear(*args), lambda: by_convolution(*args),
                             lambda: linear(*args)), strict=True))
    seconds = time_in_turns(calls, turns, torch.device('cpu'), title=str(size))
    return {name: tokens * channels * out / statistics.median(values) / 1e9
            for name, values in seconds.items()}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--turns', type=int, default=15)
    parser.add_argument('--json', action='store_true')
    args = parser.parse_args(arguments)
    if args.turns < 1:
        parser.error('--turns takes numbers of at least 1')
    rates = [measure(size, args.turns) for size in SIZES]
    if args.json:
        print(json.dumps([dict(size=size, **rate)
                          for size, rate in zip(SIZES, rates, strict=True)]))
        return
    print(f'billions of multiply-adds a second, medians of {args.turns} turns, '
          f'{torch.get_num_threads()} threads, '
          f'{torch.backends.cpu.get_cpu_capability()}')
    print(f'{"tokens x channels":22}' + ''.join(f'{name:>17}' for name in FORMS))
    for (tokens, channels, out), rate in zip(SIZES, rates, strict=True):
        print(f'{f"{tokens} x {channels} -> {out}":22}'
              + ''.join(f'{rate[name]:17.0f}' for name in FORMS))


if __name__ == '__main__':
    main()
