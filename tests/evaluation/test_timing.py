# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Times in turns, the floor of products, peaks of memory, and the machine."""
import os
import subprocess
import sys
import time

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmaction_tokenreduce.evaluation import (
    MatrixProducts,
    Spread,
    busy_warning,
    count_complexity,
    describe_machine,
    machine_line,
    peak_megabytes,
    ratios,
    time_in_turns,
    time_shares,
)

CPU = torch.device('cpu')


def test_medians_and_quartiles():
    assert Spread.of([1, 2, 3, 4, 10], 10) == Spread(30, 20, 40)
    assert Spread.of([7]) == Spread(7, 7, 7)
    # of each turn, not of the medians
    assert ratios([1, 2, 9], [1, 4, 3]) == Spread(1, 0.75, 2)


def test_calls_take_turns():
    log = []
    seconds = time_in_turns({'a': lambda: log.append('a'),
                             'b': lambda: (log.append('b'), time.sleep(0.02))},
                            turns=3, device=CPU, warm_up=2)
    assert ''.join(log) == 'ab' * 5
    assert [len(values) for values in seconds.values()] == [3, 3]
    assert min(seconds['b']) >= 0.02


class Sleeper(nn.Module):
    """Waits."""

    def forward(self, x):
        time.sleep(0.02)
        return x


def test_shares_of_modules():
    model = nn.Sequential(Sleeper(), Sleeper(), Sleeper(), nn.Identity())
    shares = time_shares(lambda: model(torch.zeros(1)),
                         dict(two=list(model[:2]), rest=[model[3]], none=[]), 3, CPU)
    assert shares['two'] == pytest.approx(2 / 3, abs=0.2)
    assert shares['rest'] < 0.2 and shares['none'] == 0
    assert not model[0]._forward_hooks and not model[0]._forward_pre_hooks


class Block(nn.Module):
    """A linear layer, fused attention, a convolution of tokens, a product."""

    def __init__(self):
        super().__init__()
        self.qkv, self.conv = nn.Linear(16, 48), nn.Conv1d(16, 8, 3, groups=2)

    def forward(self, x):
        q, k, v = self.qkv(x).relu().chunk(3, -1)
        x = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
        x = self.conv(x.softmax(-1).mT)
        return x @ x.mT


@pytest.mark.parametrize('train', [False, True])
def test_products_are_those_that_are_counted(train):
    block, x = Block(), torch.randn(2, 10, 16)

    def step():
        with torch.set_grad_enabled(train):
            out = block(x)
            if train:
                out.sum().backward()

    products = MatrixProducts(step, block.parameters())
    block.zero_grad()
    with FlopCounterMode(display=False) as done:
        products()
    if not train:  # a multiply-add is 2 there, and a CPU's fused attention not known
        counted = count_complexity(block, x)
        assert done.get_total_flops() == 2 * (
            counted.flops - counted.operators['attention'])
        assert sum(products.calls.values()) == 4
    with FlopCounterMode(display=False) as asked:
        step()
    assert done.get_total_flops() == asked.get_total_flops()
    assert products.fused_attention == 1
    backward = [name for name in products.calls if name.endswith('_backward')]
    assert len(backward) == 2 * train  # of attention and of the convolution
    assert all('scaled_dot_product' in name or name in (
        'mm', 'addmm', 'bmm', 'convolution', 'convolution_backward')
        for name in products.calls)


def test_products_read_parameters_and_noise():
    """Strides are kept, also of what is expanded; nothing else of the call is done."""
    weight, seen = nn.Parameter(torch.randn(4, 3)), []
    products = MatrixProducts(
        lambda: (torch.ones(1, 3).expand(2, 3) @ weight.mT, seen.append(1)), [weight])
    assert products.calls == dict(mm=1) and seen == [1]
    products()
    assert seen == [1]
    (_, (left, right), _), = products._products
    assert left.stride() == (0, 1) and not torch.equal(left, torch.ones(2, 3))
    assert right.untyped_storage().data_ptr() == weight.untyped_storage().data_ptr()
    assert right.shape == (3, 4)


def test_peak_above_what_is_there():
    stays = torch.ones(2**22)  # 16 MiB

    def call():
        for _ in range(2):  # one after the other
            torch.ones(2**24).sum()  # 64 MiB

    call()
    assert peak_megabytes(call, stays.device) == pytest.approx(64, abs=8)


def test_the_machine():
    machine = describe_machine(CPU)
    assert machine['device'] == 'cpu' and machine['threads'] == torch.get_num_threads()
    assert machine['processor'] and machine['processor'] in machine_line(machine)
    assert machine['busy'] is None or 0 <= machine['busy'] <= os.cpu_count()
    assert busy_warning(dict(machine, busy=0.2)) is None
    assert 'kept 3.0 cores busy' in busy_warning(dict(machine, busy=3.0))
    assert busy_warning(dict(machine, busy=None)) is None


def test_other_processes_are_seen():
    alone = describe_machine(CPU)['busy']
    if alone is None or alone > os.cpu_count() - 1.2:
        pytest.skip('the system does not say, or no core is free')
    with subprocess.Popen([sys.executable, '-c', 'while True: pass']) as other:
        try:
            assert describe_machine(CPU)['busy'] > 0.6
        finally:
            other.kill()
