# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Time of token merging (STTM) at the two merges of TimeSformer-B, in one run.

The rows are those of one clip of 8 frames at 224x224, merge ratio 0.5: within frames
(8 rows of 196 tokens) and over the clip (1 row of 784). In milliseconds, medians of
alternated, warm forward passes without gradients:

* select, paper's loop: the greedy selection, each step comparing all tokens with the
  newest pick, D channels wide;
* select, here: ``ops.orthogonal_select``, the same picks but for rounding;
* module: all of ``TokenMerging``, selection included;
* block: one dense ViT block over the same rows, for scale.
"""
import argparse
import json
import statistics

import _checkout  # noqa: F401
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmaction_tokenreduce.evaluation import time_in_turns
from mmaction_tokenreduce.layers import TokenMerging
from mmaction_tokenreduce.ops import orthogonal_select

# scope: (rows, tokens in each)
SIZES = {'frame': (8, 196), 'clip': (1, 784)}
FORMS = ("select, paper's loop", 'select, here', 'module', 'block')


def paper_select(x: Tensor, k: int, first: Tensor) -> Tensor:
    """The greedy loop over the D-wide features; the baseline of this benchmark."""
    unit, every = F.normalize(x, dim=-1), torch.arange(len(x), device=x.device)
    worst = x.new_zeros(x.shape[:2])
    picked = [first]
    while len(picked) < k:
        newest = unit[every, picked[-1]]
        cosine = torch.bmm(unit, newest.unsqueeze(-1)).squeeze(-1).abs()
        worst = torch.maximum(worst, cosine)
        worst[every, picked[-1]] = torch.inf
        picked.append(worst.argmin(dim=1))
    return torch.stack(picked, dim=1)


def make_forms(scope: str, channels: int, device: str) -> dict:
    """The callables to time, by name."""
    torch.manual_seed(0)
    rows, length = SIZES[scope]
    x = torch.randn(rows, length, channels, device=device)
    positions, scores = torch.randn_like(x), torch.rand(rows, length, device=device)
    first = torch.zeros(rows, dtype=torch.long, device=device)
    module = TokenMerging(channels, scope=scope).to(device).eval()
    block = nn.TransformerEncoderLayer(channels, channels // 64, 4 * channels,
                                       activation='gelu', batch_first=True,
                                       norm_first=True).to(device).eval()
    k = -(-3 * module.kept_count(length) // 2)
    calls = (lambda: paper_select(x, k, first), lambda: orthogonal_select(x, k, first),
             lambda: module(x, positions, scores), lambda: block(x))
    return dict(zip(FORMS, calls, strict=True))


@torch.inference_mode()
def measure(scope: str, channels: int, turns: int, device: str) -> dict[str, float]:
    """Median milliseconds by form."""
    seconds = time_in_turns(make_forms(scope, channels, device), turns,
                            torch.device(device), title=scope)
    return {name: 1e3 * statistics.median(values) for name, values in seconds.items()}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--channels', type=int, default=768, help='D, a multiple of 64')
    parser.add_argument('--turns', type=int, default=9)
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--json', action='store_true')
    args = parser.parse_args(arguments)
    if args.turns < 1:
        parser.error('--turns takes numbers of at least 1')
    if args.channels < 64 or args.channels % 64:
        parser.error('--channels takes multiples of 64')
    result = {scope: measure(scope, args.channels, args.turns, args.device)
              for scope in SIZES}
    if args.json:
        print(json.dumps(result))
        return
    print(f'token merging, D={args.channels}, ratio 0.5, median ms of {args.turns} '
          f'turns on {args.device}, {torch.get_num_threads()} threads')
    print(f'{"":24}' + ''.join(f'{scope:>6} {rows}x{length:<5}'
                              for scope, (rows, length) in SIZES.items()))
    for name in FORMS:
        print(f'{name:24}' + ''.join(f'{result[scope][name]:12.1f}  '
                                     for scope in SIZES).rstrip())


if __name__ == '__main__':
    main()
