# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Learning rates and decay of every parameter, how they move, what runs start from."""
import pytest
import torch
from config_files import STTS, build, shrink, stts
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope

from mmaction_tokenreduce.engine import CheckLoadHook
from mmaction_tokenreduce.engine.hooks.check_load_hook import compare_state


@pytest.fixture(autouse=True)
def mmaction_scope():
    with DefaultScope.overwrite_default_scope('mmaction'):
        yield


@pytest.mark.parametrize('name', STTS)
def test_a_run_starts_from_what_its_hooks_allow(name):
    """The dense model fits but for selectors; from K400 to SSv2 but for named parts."""
    start = stts(name).load_from
    if 'dense' in name and name != 'swin_base_dense_ssv2':
        assert start is None
        return
    state = {}
    for cfg in (stts(DENSE[start]), stts(name)):
        shrink(cfg)
        model = build(cfg)
        state = state or model.state_dict()
    options = stts(name).default_hooks.check_load.to_dict()
    options.pop('type')
    hook = CheckLoadHook(**options)
    found = compare_state(model, state)
    reshaped = [key for key, _, _ in found.reshaped]
    assert not found.unexpected
    assert all(hook.allow_missing.match(key) for key in found.missing)
    assert all(hook.allow_reshaped.match(key) for key in reshaped)
    assert {key.rpartition('.')[2] for key in reshaped if 'backbone' in key} <= {
        'relative_position_bias_table', 'relative_position_index'}
    assert bool(reshaped) == ('dense' in name)
    assert 'sigma_decay' in stts(name).default_hooks or 'dense' in name


DENSE = {
    'checkpoints/mvit_b16_k400.pth': 'mvit_dense_k400',
    'checkpoints/swin_base_k400.pth': 'swin_base_dense_k400',
    'checkpoints/swin_base_ssv2.pth': 'swin_base_dense_ssv2',
}


def groups(cfg):
    """Name of each parameter of a config's model to its group in the optimiser."""
    shrink(cfg)
    model = build(cfg)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    names = {id(p): name for name, p in model.named_parameters()}
    found = {names[id(p)]: group
             for group in optimizer.param_groups for p in group['params']}
    assert found.keys() == set(names.values())
    return found, dict(model.named_parameters())


# Learning rate of the host and of what is new, and the new parameters' mark.
RATES = {
    'mvit_k400': (1e-6, 1e-4, 'score_net'),
    'mvit_released_schedule_k400': (1e-6, 1e-4, 'score_net'),
    'swin_base_t06_k400': (3e-6, 3e-4, 'score_net'),
    'swin_base_t06_ssv2': (3e-6, 3e-4, 'score_net'),
    'swin_base_dense_k400': (1e-4, 1e-3, 'cls_head'),
    'swin_base_dense_ssv2': (3e-5, 3e-4, 'cls_head'),
}


@pytest.mark.parametrize('name,form', [
    *((name, 'released') for name in RATES),
    *((name, 'paper') for name, (_, _, mark) in RATES.items() if mark == 'score_net')])
def test_rates_and_decay_of_every_parameter(name, form):
    """No decay of 1-d parameters and of tables of relative positions."""
    host, new, mark = RATES[name]
    cfg = stts(name)
    for reducer in cfg.model.backbone.get('reducers', ()):
        reducer.score_net = form
    found, parameters = groups(cfg)
    assert any(mark in parameter for parameter in found)
    for parameter, group in found.items():
        flat = parameters[parameter].dim() == 1 or 'bias_table' in parameter
        rate = new if mark in parameter else host
        assert group['lr'] == pytest.approx(rate), parameter
        assert group['weight_decay'] == pytest.approx(0 if flat else 0.05), parameter


def course(name, epoch_length=50):
    """Learning rate of host and new parameters in each step of a run."""
    cfg = stts(name)
    found, _ = groups(cfg)
    mark = RATES[name][2]
    pair = [next(group for key, group in found.items() if (mark in key) == new)
            for new in (False, True)]
    optimizer = torch.optim.SGD([
        dict(group, params=[torch.nn.Parameter(torch.zeros(1))]) for group in pair])
    schedulers = [PARAM_SCHEDULERS.build(scheduler, default_args=dict(
        optimizer=optimizer, epoch_length=epoch_length))
        for scheduler in cfg.param_scheduler]
    rates = []
    for _ in range(cfg.train_cfg.max_epochs * epoch_length):
        rates.append([group['lr'] for group in optimizer.param_groups])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return torch.tensor(rates, dtype=torch.float64).T


@pytest.mark.parametrize('name,warmup,start,epochs', [
    ('mvit_k400', 3, 0.01, 20),
    ('swin_base_t06_k400', 0.8, 0.01, 10),
    ('swin_base_t06_ssv2', 0.8, 0.01, 20),
    ('swin_base_dense_k400', 2.5, 0.1, 30),
    ('swin_base_dense_ssv2', 2.5, 0.1, 60),
])
def test_warm_up_and_cosine(name, warmup, start, epochs):
    for rate, peak in zip(course(name), RATES[name], strict=False):
        first = round(warmup * 50)
        assert len(rate) == epochs * 50
        assert rate[0] == pytest.approx(start * peak)
        assert rate.max() == pytest.approx(peak) and rate.argmax() in (first - 1, first)
        assert (rate[:first].diff() > 0).all() and (rate[first:].diff() < 0).all()
        middle = first + (len(rate) - first) // 2
        assert rate[middle] == pytest.approx(peak / 2, rel=0.01)
        assert rate[-1] < 1e-3 * peak


def test_the_released_schedule():
    """The host at 0 for 3 epochs; selectors fall from the first step on, to 1e-6."""
    host, selectors = course('mvit_released_schedule_k400')
    assert (host[:150] == 0).all() and host[150:] == pytest.approx(1e-6)
    assert selectors[0] == pytest.approx(1e-4)
    assert (selectors.diff() < 0).all()
    assert selectors[-1] == pytest.approx(1e-6, rel=0.01)
    assert selectors[500] == pytest.approx((1e-4 + 1e-6) / 2)
