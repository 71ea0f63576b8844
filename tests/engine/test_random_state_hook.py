# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""RandomStateHook: what is drawn after a boundary is the same with and without it."""
import io
import logging
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler
from torch.utils.data import BatchSampler, DataLoader

from mmaction_tokenreduce.engine import RandomStateHook
from mmaction_tokenreduce.engine.hooks.random_state_hook import (
    get_random_state,
    set_random_state,
)


def draw():
    return (random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(),
            torch.rand(()).item(), torch.randn(()).item())


def runner_of(sampler=None, resume=False):
    data = list(range(8))
    sampler = sampler or DefaultSampler(data, seed=11)
    return SimpleNamespace(train_dataloader=DataLoader(data, 2, sampler=sampler),
                           _resume=resume, logger=logging.getLogger('runner'))


def saved_and_loaded(hook, runner):
    checkpoint = {}
    hook.before_save_checkpoint(runner, checkpoint)
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def test_state_survives_a_weights_only_checkpoint():
    draw()  # leaves a second Gaussian of each pair behind, which is state too
    buffer = io.BytesIO()
    torch.save(get_random_state(), buffer)
    expected = [draw() for _ in range(3)]
    buffer.seek(0)
    torch.serialization.clear_safe_globals()  # plain tensors and numbers: needs none
    state = torch.load(buffer, weights_only=True)
    draw()
    set_random_state(state)
    assert [draw() for _ in range(3)] == expected


@pytest.fixture(autouse=True)
def same_safe_globals():
    held = torch.serialization.get_safe_globals()
    yield
    torch.serialization.add_safe_globals(held)


def test_validation_and_resume_leave_the_next_epoch_unchanged():
    hook, runner = RandomStateHook(), runner_of()
    hook.before_train_epoch(runner)
    draw()
    hook.after_train_epoch(runner)
    before_validation = saved_and_loaded(hook, runner)
    draw()
    after_validation = saved_and_loaded(hook, runner)  # a new best, saved once more
    draw()
    hook.before_train_epoch(runner)
    unbroken = draw()

    for checkpoint in (before_validation, after_validation):
        draw()
        resumed = RandomStateHook()
        other = runner_of(DefaultSampler(list(range(8)), seed=99), resume=True)
        resumed.after_load_checkpoint(other, checkpoint)
        draw()
        resumed.before_train_epoch(other)
        assert draw() == unbroken
        assert other.train_dataloader.sampler.seed == 11
        assert list(other.train_dataloader.sampler) == list(
            runner.train_dataloader.sampler)


def test_first_epoch_starts_as_seeded_and_a_checkpoint_inside_it_says_how():
    hook, runner = RandomStateHook(), runner_of()
    torch.manual_seed(5)
    expected = get_random_state()
    hook.before_train_epoch(runner)
    assert torch.equal(torch.get_rng_state(), expected['torch'])
    draw()
    stored = saved_and_loaded(hook, runner)['random_state']
    assert torch.equal(stored['ranks'][0]['torch'], expected['torch'])
    assert stored['sampler_seed'] == 11


def test_seed_of_a_sampler_inside_a_batch_sampler():
    data = list(range(8))
    loader = DataLoader(
        data, batch_sampler=BatchSampler(DefaultSampler(data, seed=42), 2, True))
    runner = SimpleNamespace(train_dataloader=loader)
    hook = RandomStateHook()
    hook.after_train_epoch(runner)
    assert saved_and_loaded(hook, runner)['random_state']['sampler_seed'] == 42


def test_sampler_without_a_seed():
    runner = runner_of(torch.utils.data.SequentialSampler(range(8)))
    hook = RandomStateHook()
    hook.after_train_epoch(runner)
    assert saved_and_loaded(hook, runner)['random_state']['sampler_seed'] is None
    hook.before_train_epoch(runner)


def stored_by(ranks):
    return dict(random_state=dict(ranks=[get_random_state()] * ranks, sampler_seed=1))


@pytest.mark.parametrize('checkpoint, words', [
    (dict(), 'no random states'), (stored_by(2), '2 ranks, this run has 1')])
def test_what_cannot_be_restored_is_said(checkpoint, words, caplog):
    hook, runner = RandomStateHook(), runner_of(resume=True)
    hook.after_load_checkpoint(runner, checkpoint)
    assert words in caplog.text
    state = torch.get_rng_state()
    hook.before_train_epoch(runner)
    assert torch.equal(torch.get_rng_state(), state)
    assert runner.train_dataloader.sampler.seed == 11


def test_fine_tuning_keeps_its_own_random_numbers(caplog):
    hook, runner = RandomStateHook(), runner_of()
    checkpoint = stored_by(1)
    draw()
    state = torch.get_rng_state()
    hook.after_load_checkpoint(runner, checkpoint)
    hook.before_train_epoch(runner)
    assert torch.equal(torch.get_rng_state(), state)
    assert not caplog.text
