# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Exact resume: random states are stored in the checkpoints and restored from them.

mmengine stores the seed alone and seeds anew on resume, so that a resumed run draws
other crops, dropout masks and noise than an unbroken one, and without ``--seed`` even
another order of samples.

What decides the moment is that an epoch can end in two ways. An unbroken run saves the
checkpoint, validates (each start of a data loader draws a number, a test pipeline or
a random selection may draw more), perhaps saves again as the best, and goes on; a
resumed run loads and goes on. So the state is taken once, as the epoch's training
ends, every checkpoint written until the next epoch holds that state, and every epoch
but the first starts from it, in either kind of run.
"""
import random
from typing import Any

import numpy
import torch
from mmaction.registry import HOOKS
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

STATE_KEY = 'random_state'


def get_random_state() -> dict[str, Any]:
    """The states of this process's global random generators.

    Returns:
        dict: ``python``, ``numpy``, ``torch`` and, where CUDA is in use, ``cuda`` (of
            the current device); tensors, lists, numbers and None only, so that a
            weights-only load can read them.
    """
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = numpy.random.get_state()
    state = dict(
        python=[version, torch.tensor(words), gauss],
        numpy=[str(name), torch.tensor(keys.tolist()), int(position), int(has_gauss),
               float(cached)],
        torch=torch.get_rng_state())
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state['cuda'] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Put the generators into a state that ``get_random_state`` returned.

    Args:
        state (dict): The state. Its tensors may have been moved to another device in
            loading. A CUDA state is left out where CUDA is not available.
    """
    version, words, gauss = state['python']
    random.setstate((version, tuple(words.tolist()), gauss))
    name, keys, position, has_gauss, cached = state['numpy']
    keys = numpy.array(keys.tolist(), dtype=numpy.uint32)
    numpy.random.set_state((name, keys, position, has_gauss, cached))
    torch.set_rng_state(state['torch'].cpu())
    if 'cuda' in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'].cpu())


def shuffling_sampler(runner: Runner) -> Any:
    """The sampler that decides the training order, or None where it has no seed."""
    loader = runner.train_dataloader
    # beside a batch sampler of its own, a DataLoader's `sampler` is only a default
    sampler = getattr(loader.batch_sampler, 'sampler', loader.sampler)
    return sampler if hasattr(sampler, 'seed') else None


@HOOKS.register_module()
class RandomStateHook(Hook):
    """Stores the random states of every rank and restores them on resume.

    A run resumed from a checkpoint of an epoch's end (``by_epoch=True``) computes what
    the unbroken run computes, on the same machine with the same number of ranks, with
    ``num_workers=0`` in the training data loader: worker processes have generators of
    their own, which mmengine seeds equally for each start of the workers. Resumed in
    the middle of an epoch, or in an ``IterBasedTrainLoop``, a run continues from the
    state of the last boundary, but mmengine then skips or repeats batches, and it is
    not the same run.

    A side effect: validation no longer changes the random numbers of the training.
    """

    # First at either end of an epoch: what other hooks draw there happens again in
    # a resumed run, or is dropped in both.
    priority = 'HIGHEST'

    def __init__(self) -> None:
        self._states: list[dict[str, Any]] | None = None  # one of every rank
        self._sampler_seed: int | None = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take the states out of a checkpoint that the run resumes from.

        Args:
            runner (Runner): The runner.
            checkpoint (dict): The loaded checkpoint.
        """
        if not runner._resume:
            return
        stored = checkpoint.get(STATE_KEY)
        if stored is None:
            runner.logger.warning(
                'The checkpoint holds no random states (it was saved without '
                'RandomStateHook): the run goes on with newly seeded generators.')
        elif len(stored['ranks']) != get_world_size():
            runner.logger.warning(
                f'The checkpoint holds random states of {len(stored["ranks"])} ranks, '
                f'this run has {get_world_size()}: it goes on with newly seeded '
                'generators.')
        else:
            self._states = stored['ranks']
            self._sampler_seed = stored['sampler_seed']

    def before_train_epoch(self, runner: Runner) -> None:
        """Start the epoch from the state in which the one before ended.

        Args:
            runner (Runner): The runner.
        """
        if self._states is None:
            self._take(runner)
            return
        set_random_state(self._states[get_rank()])
        sampler = shuffling_sampler(runner)
        if sampler is not None and self._sampler_seed is not None:
            sampler.seed = self._sampler_seed

    def after_train_epoch(self, runner: Runner) -> None:
        """Take the states of all ranks, before any hook saves a checkpoint.

        Args:
            runner (Runner): The runner.
        """
        self._take(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Put the states taken last into a checkpoint (the main rank's task).

        Args:
            runner (Runner): The runner.
            checkpoint (dict): The checkpoint, extended in place.
        """
        if self._states is not None:
            checkpoint[STATE_KEY] = dict(
                ranks=self._states, sampler_seed=self._sampler_seed)

    def _take(self, runner: Runner) -> None:
        self._states = all_gather_object(get_random_state())
        sampler = shuffling_sampler(runner)
        self._sampler_seed = None if sampler is None else int(sampler.seed)
