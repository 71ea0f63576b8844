# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""CPUAmpOptimWrapper: bfloat16 forward, float32 state, mmengine's accumulation."""
from contextlib import nullcontext

import pytest
import torch
from mmaction.registry import OPTIM_WRAPPERS
from mmengine.optim import OptimWrapper
from torch import nn

from mmaction_tokenreduce.engine import CPUAmpOptimWrapper


def train(wrapper_type, autocast=False, **options):
    """Dtypes of the outputs, and the weights after five steps."""
    torch.manual_seed(0)
    model = nn.Linear(16, 4)
    wrapper = wrapper_type(optimizer=torch.optim.SGD(model.parameters(), lr=0.5),
                           **options)
    wrapper.initialize_count_status(model, 0, 5)
    dtypes = set()
    for step in range(5):
        x = torch.full((2, 16), 0.1 * (step + 1))
        around = torch.autocast('cpu', torch.bfloat16) if autocast else nullcontext()
        with around, wrapper.optim_context(model):
            output = model(x)
        dtypes.add(output.dtype)
        wrapper.update_params((output.float() - 1).square().mean())
    return dtypes, model.weight.detach()


def test_forward_is_bfloat16_and_parameters_are_float32():
    model = nn.Linear(8, 8)
    wrapper = CPUAmpOptimWrapper(
        optimizer=torch.optim.AdamW(model.parameters(), lr=1e-3))
    wrapper.initialize_count_status(model, 0, 1)
    before = model.weight.detach().clone()
    with wrapper.optim_context(model):
        output = model(torch.ones(2, 8))
        assert output.dtype == torch.bfloat16
    assert model(torch.ones(2, 8)).dtype == torch.float32  # the context has ended
    loss = output.float().sum()
    loss.backward()
    assert model.weight.grad.dtype == torch.float32
    wrapper.step()
    state = wrapper.state_dict()['state'][0]
    assert state['exp_avg'].dtype == model.weight.dtype == torch.float32
    assert not torch.equal(model.weight, before)


@pytest.mark.parametrize('options', [
    dict(), dict(accumulative_counts=2), dict(accumulative_counts=3),
    dict(clip_grad=dict(max_norm=0.01)),
    dict(accumulative_counts=2, clip_grad=dict(type='value', clip_value=0.001))])
def test_steps_are_those_of_optim_wrapper(options):
    def run(kind, autocast=False):
        copied = {key: dict(value) if isinstance(value, dict) else value
                  for key, value in options.items()}  # it pops from clip_grad
        return train(kind, autocast, **copied)

    dtypes, weight = run(CPUAmpOptimWrapper)
    assert dtypes == {torch.bfloat16}
    _, expected = run(OptimWrapper, autocast=True)
    torch.testing.assert_close(weight, expected, rtol=0, atol=0)
    dtypes, full_precision = run(OptimWrapper)
    assert dtypes == {torch.float32}
    torch.testing.assert_close(weight, full_precision, rtol=0, atol=0.02)


def test_gradients_wait_for_the_step_that_updates():
    class Counting(nn.Linear):
        entered = 0

        def no_sync(self):
            Counting.entered += 1
            return torch.no_grad()  # any context will do

    model = Counting(2, 2)
    wrapper = CPUAmpOptimWrapper(accumulative_counts=2, optimizer=torch.optim.SGD(
        model.parameters(), lr=0.1))
    with wrapper.optim_context(model):
        pass
    assert Counting.entered == 1


def test_is_found_by_its_name():
    assert OPTIM_WRAPPERS.get('CPUAmpOptimWrapper') is CPUAmpOptimWrapper


def test_a_model_elsewhere_is_refused():
    model = nn.Linear(2, 2, device='meta')
    wrapper = CPUAmpOptimWrapper(optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(ValueError, match='CPUAmpOptimWrapper.*meta.*AmpOptimWrapper'):
        wrapper.initialize_count_status(model, 0, 1)
