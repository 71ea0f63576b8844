# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""A checkpoint that does not fit its model stops the run, and says where.

mmengine loads checkpoints with ``strict=False``: keys that are missing, unexpected or
of another shape end as a warning in the log, and the run goes on with random weights.
"""
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from mmaction.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner, find_latest_checkpoint
from mmengine.runner.base_loop import BaseLoop
from torch import nn
from torch.distributed.fsdp import (
    FullStateDictConfig,
    FullyShardedDataParallel,
    StateDictType,
)

WRAPPER_PREFIX = 'module.'
FSDP_PREFIX = '_fsdp_wrapped_module.'


class Mismatch(NamedTuple):
    """How the keys of a checkpoint differ from those of a model.

    ``missing`` and ``unexpected`` hold keys; ``reshaped`` holds
    (key, shape in the checkpoint, shape in the model).
    """

    missing: list[str]
    unexpected: list[str]
    reshaped: list[tuple[str, tuple[int, ...], tuple[int, ...]]]


def compare_state(model: nn.Module, state: dict[str, Any]) -> Mismatch:
    """Compare a state dict with a model, without loading it.

    Keys that the model's modules rename or reshape in a load-state-dict pre-hook count
    as what they become. Like mmengine, it lets ``num_batches_tracked`` be missing.

    Args:
        model (nn.Module): The bare model, or one in shards (FSDP): then all ranks
            have to compare, since each of them gathers the weights of all.
        state (dict): Values by key; it is not changed.

    Returns:
        Mismatch: All keys that differ; its lists are empty where the state fits.
    """
    state = dict(state)
    for name, module in model.named_modules():
        if isinstance(module, FullyShardedDataParallel):
            continue  # its hooks prepare for loading, which does not follow here
        name = f'{name}.'.replace(FSDP_PREFIX, '') if name else ''
        for hook in module._load_state_dict_pre_hooks.values():
            hook(state, name, {}, True, [], [], [])
    own = _state_of(model)
    missing = [key for key in own
               if key not in state and not key.endswith('num_batches_tracked')]
    unexpected = [key for key in state if key not in own]
    reshaped = [
        (key, tuple(state[key].shape), tuple(value.shape)) for key, value in own.items()
        if isinstance(value, torch.Tensor) and hasattr(state.get(key), 'shape')
        and state[key].shape != value.shape
    ]
    return Mismatch(missing, unexpected, reshaped)


def _state_of(model: nn.Module) -> dict[str, Any]:
    """The model's state dict; of a model in shards the whole one, on every rank."""
    if not isinstance(model, FullyShardedDataParallel):
        return model.state_dict()
    with FullyShardedDataParallel.state_dict_type(
            model, StateDictType.FULL_STATE_DICT,
            FullStateDictConfig(rank0_only=False)):
        return model.state_dict()


def first_few(entries: Sequence[str], limit: int = 3) -> str:
    """'a, b, c and 4 more'."""
    more = len(entries) - limit
    return ', '.join(entries[:limit]) + (f' and {more} more' if more > 0 else '')


def describe(mismatch: Mismatch) -> str:
    """One line that names the first keys of each kind, how many, and what helps."""
    parts = []
    if mismatch.reshaped:
        entries = [f'{key} {list(stored)} in the file, {list(own)} in the model'
                   for key, stored, own in mismatch.reshaped]
        parts.append(f'{len(entries)} of another shape ({first_few(entries)})')
    if mismatch.missing:
        parts.append(f'{len(mismatch.missing)} missing ({first_few(mismatch.missing)})')
    if mismatch.unexpected:
        parts.append(f'{len(mismatch.unexpected)} unexpected '
                     f'({first_few(mismatch.unexpected)})')
    heads = sorted({key.rpartition('.')[0] for key, _, _ in mismatch.reshaped
                    if key.startswith('cls_head.')})
    advice = ''
    if heads:
        advice = ('; to fine-tune from a model of other classes set '
                  f'default_hooks.check_load.allow_reshaped={heads}')
    return '; '.join(parts) + advice


@HOOKS.register_module()
class CheckLoadHook(Hook):
    """Raises before a checkpoint that does not fit is put into the model.

    The three options hold prefixes of keys that may differ, in which ``*`` stands for
    anything: ``backbone.blocks.*.attn.fusion.``. They count only where a
    training run starts from ``load_from``; a checkpoint to resume from or to test has
    to fit in every key. Keys are those of the bare model: ``module.`` in front, from
    a model saved in its wrapper, is taken off.

    Args:
        allow_missing (Sequence[str]): Prefixes of keys that the file may lack; these
            parameters keep their initial values. Defaults to the reducers', so that
            a dense model can be fine-tuned.
        allow_reshaped (Sequence[str]): Prefixes of keys that may have another shape;
            they are dropped, with a line in the log. For a classification head of
            other classes: ``['cls_head.fc_cls']``. Defaults to none.
        allow_unexpected (Sequence[str]): Prefixes of keys that the file may have and
            the model not; they are dropped, with a line in the log. Defaults to none.

    Raises:
        TypeError: If an option is a string, or holds something else than strings.
    """

    # before hooks that read the weights themselves (EMAHook)
    priority = 'VERY_HIGH'

    def __init__(self, allow_missing: Sequence[str] = ('backbone.reducers.',),
                 allow_reshaped: Sequence[str] = (),
                 allow_unexpected: Sequence[str] = ()) -> None:
        self.allow_missing = _prefixes('allow_missing', allow_missing)
        self.allow_reshaped = _prefixes('allow_reshaped', allow_reshaped)
        self.allow_unexpected = _prefixes('allow_unexpected', allow_unexpected)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare, drop what the options allow, and raise for what is left.

        Args:
            runner (Runner): The runner, which is about to load the weights.
            checkpoint (dict): The loaded checkpoint, or a bare state dict. Reshaped
                and unexpected keys that are allowed are taken out of it.

        Raises:
            ValueError: If the file holds no state dict, or one that does not fit.
        """
        source = f'checkpoint {_file_of(runner)}'
        if not isinstance(checkpoint, dict):
            raise ValueError(f'{source} holds a {type(checkpoint).__name__}, not a '
                             'dict of weights')
        if 'state_dict' not in checkpoint and 'model_state' in checkpoint:
            raise ValueError(
                f'{source} was saved by PySlowFast (its weights are in `model_state`); '
                'convert it first with tools/convert_checkpoint.py')
        stored = checkpoint.get('state_dict', checkpoint)
        state = {key.removeprefix(WRAPPER_PREFIX): value
                 for key, value in stored.items()}
        model = runner.model
        while (is_model_wrapper(model) or isinstance(model, BaseTTAModel)) and (
                not isinstance(model, FullyShardedDataParallel)):
            model = model.module
        mismatch = compare_state(model, state)
        if isinstance(runner._train_loop, BaseLoop) and not runner._resume:
            mismatch = self._drop_allowed(runner, stored, mismatch)
        if any(mismatch):
            raise ValueError(f'{source} does not fit the model: {describe(mismatch)}')

    def _drop_allowed(self, runner: Runner, stored: dict,
                      mismatch: Mismatch) -> Mismatch:
        """What the options do not allow; the rest is taken out of ``stored``."""
        reshaped = [entry[0] for entry in mismatch.reshaped
                    if self.allow_reshaped.match(entry[0])]
        unexpected = [key for key in mismatch.unexpected
                      if self.allow_unexpected.match(key)]
        for kind, keys in (('reshaped', reshaped), ('unexpected', unexpected)):
            for key in keys:
                stored.pop(key if key in stored else WRAPPER_PREFIX + key, None)
            if keys:
                runner.logger.warning(f'Not loaded, as allow_{kind} says: '
                                      f'{first_few(keys, limit=len(keys))}')
        return Mismatch(
            [key for key in mismatch.missing if not self.allow_missing.match(key)],
            [key for key in mismatch.unexpected if key not in unexpected],
            [entry for entry in mismatch.reshaped if entry[0] not in reshaped])


def _file_of(runner: Runner) -> str:
    """The file that the runner loads: ``load_from``, or the latest of its folder."""
    return runner._load_from or str(find_latest_checkpoint(runner.work_dir))


def _prefixes(name: str, value: Iterable[str]) -> re.Pattern:
    """What matches keys that begin so; ``value`` is checked to be some strings."""
    if isinstance(value, str) or not all(isinstance(entry, str) for entry in value):
        raise TypeError(f'default_hooks.check_load.{name} must be a list of key '
                        f'prefixes, got {value!r}')
    # (?!) matches nothing
    return re.compile('|'.join(
        re.escape(prefix).replace(r'\*', '.*') for prefix in value) or '(?!)')
