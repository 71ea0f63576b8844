# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""HeldCosineLR against the formula, through mmengine's registry, and resumed."""
import math

import pytest
import torch
from mmaction.registry import PARAM_SCHEDULERS
from mmengine.registry import DefaultScope
from torch.testing import assert_close

from mmaction_tokenreduce.engine import HeldCosineLR


def sgd():
    """A host at 1e-3 and a selector at 1e-2."""
    return torch.optim.SGD([
        dict(params=[torch.nn.Parameter(torch.zeros(1))], lr=1e-3),
        dict(params=[torch.nn.Parameter(torch.zeros(1))], lr=1e-2, learns_first=True)
    ], lr=1.0)


def rates(optimizer, scheduler, steps):
    """Learning rates of both groups in the steps to come."""
    seen = []
    for _ in range(steps):
        seen.append([group['lr'] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return torch.tensor(seen, dtype=torch.float64)


def test_epochs_become_iterations_and_values_are_those_of_the_formula():
    optimizer = sgd()
    with DefaultScope.overwrite_default_scope('mmaction'):
        scheduler = PARAM_SCHEDULERS.build(
            dict(type='HeldCosineLR', hold=1.5, eta_min=1e-4, begin=0, end=5,
                 by_epoch=True, convert_to_iter_based=True),
            default_args=dict(optimizer=optimizer, epoch_length=4))
    share = torch.tensor([(1 + math.cos(math.pi * i / 20)) / 2 for i in range(20)],
                         dtype=torch.float64)
    host, selector = (1e-4 + (base - 1e-4) * share for base in (1e-3, 1e-2))
    host[:6] = 0
    assert_close(rates(optimizer, scheduler, 20), torch.stack((host, selector), 1))


def test_resume_continues():
    optimizer, options = sgd(), dict(hold=3, eta_min_ratio=0.1, end=8, by_epoch=False)
    scheduler = HeldCosineLR(optimizer, **options)
    rates(optimizer, scheduler, 2)
    saved = optimizer.state_dict(), scheduler.state_dict()
    want = rates(optimizer, scheduler, 6)
    assert want[0, 0] == 0 and want[1, 0] > 0
    again = sgd()
    resumed = HeldCosineLR(again, **options)
    again.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    assert_close(rates(again, resumed, 6), want, rtol=0, atol=0)


def test_a_negative_hold_is_refused():
    with pytest.raises(ValueError, match='hold=-1 is negative'):
        HeldCosineLR(sgd(), hold=-1, end=8)
