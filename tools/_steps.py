# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What tools/benchmark.py times of a config: its model's inference or training step.

A module of its own, because the processes that measure memory import it.
"""
import _checkout  # noqa: F401, I001

import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from dataclasses import dataclass
from multiprocessing import get_context

import torch
from mmaction.structures import ActionDataSample
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import Tensor

from _model import build_model
from mmaction_tokenreduce.engine.cli import load_config, set_amp
from mmaction_tokenreduce.engine.user_errors import ConfigError
from mmaction_tokenreduce.evaluation import (
    default_input_shape,
    peak_megabytes,
    recognizer_forward,
    recognizer_inputs,
)
from mmaction_tokenreduce.layers import GridReducer, KeyframePruning, TokenMerging
from mmaction_tokenreduce.models import EVAD

REDUCERS = GridReducer | KeyframePruning | TokenMerging
HALF = dict(cpu=torch.bfloat16, cuda=torch.float16)  # as in tools/train.py
WARM_UP = 2  # a first run loads libraries and makes gradients and optimiser states


@dataclass(frozen=True)
class Task:
    """What is timed of every config.

    Attributes:
        device: 'cpu' or 'cuda'.
        train: A training step instead of inference.
        amp: Mixed precision.
        actors: In a clip that a detector is trained on.
        shape: (C, T, H, W) of every clip; None: as each config's test pipeline gives.
        options: Changes to every config, by dotted key.
    """
    device: str = 'cpu'
    train: bool = False
    amp: bool = False
    actors: int = 3
    shape: tuple[int, ...] | None = None
    options: dict | None = None


class Subject:
    """The model of a config, ready to be timed.

    Weights are what modules start with: the time does not depend on them.

    Args:
        path: The config file.
        task: What is to be timed of it.

    Raises:
        ConfigError: If the config cannot be used, or has no size of a clip.

    Attributes:
        config: The config.
        model: The model on its device.
        shape: (C, T, H, W) of a clip.
    """

    def __init__(self, path: str, task: Task) -> None:
        needed = ('model', 'optim_wrapper') if task.train else ('model', )
        self.config = load_config(path, task.options, needed)
        try:
            self.shape = tuple(task.shape or default_input_shape(self.config))
        except ValueError as error:
            raise ConfigError(f'config file {path}: {error}') from error
        self.task, self.device = task, torch.device(task.device)
        self.model = build_model(self.config).to(self.device)
        self.model.train(task.train)
        self._wrapper = self._build_wrapper() if task.train else None

    def _build_wrapper(self) -> OptimWrapper:
        set_amp(self.config, self.task.amp, self.task.device)
        logging.disable(logging.INFO)  # mmengine writes a line for each parameter
        try:
            with DefaultScope.overwrite_default_scope('mmaction'):
                return build_optim_wrapper(self.model, self.config.optim_wrapper)
        finally:
            logging.disable(logging.NOTSET)

    @property
    def precision(self) -> str:
        """The type that products are computed in: 'float32', or what ``--amp`` takes.

        A training step is mixed, too, where the config says so by itself.
        """
        mixed = self.task.amp or 'Amp' in type(self._wrapper).__name__
        return str(HALF[self.task.device] if mixed else torch.float32)[6:]

    def parts(self) -> dict[str, list[torch.nn.Module]]:
        """What is timed apart: the reducers, and the parts of a detector."""
        modules = self.model.modules()
        parts = dict(reducers=[m for m in modules if isinstance(m, REDUCERS)])
        if isinstance(self.model, EVAD):
            parts.update(encoder=[self.model.backbone],
                         localiser=[self.model.neck, self.model.localizer],
                         decoder=[self.model.action_head])
        return parts

    def step(self, batch: int) -> Callable[[], None]:
        """A call that does inference, or a training step, of ``batch`` clips of noise.

        A training step is a forward and a backward pass and the optimiser's update;
        gradients stay where they are.
        """
        torch.manual_seed(0)
        clips = torch.randn(batch, *self.shape, device=self.device)
        if not self.task.train:
            return lambda: self._infer(clips)
        samples = [self._sample() for _ in range(batch)]
        return lambda: self._train(clips, samples)

    def _infer(self, clips: Tensor) -> None:
        with torch.no_grad(), self._autocast():
            recognizer_forward(self.model, clips)

    def _autocast(self) -> AbstractContextManager:
        if not self.task.amp:
            return nullcontext()
        return torch.autocast(self.task.device, HALF[self.task.device])

    def _train(self, clips: Tensor, samples: list[ActionDataSample]) -> None:
        inputs = recognizer_inputs(self.model, clips)
        with self._wrapper.optim_context(self.model):
            losses = self.model(inputs, samples, mode='loss')
        loss = self.model.parse_losses(losses)[0]
        self._wrapper.update_params(loss, zero_kwargs=dict(set_to_none=False))

    def _sample(self) -> ActionDataSample:
        """Labels at random; for a detector also boxes, within the clip."""
        if not isinstance(self.model, EVAD):
            counts = self.model.cls_head.num_classes
            counts = counts if isinstance(counts, tuple) else (counts, )
            label = [int(torch.randint(count, ())) for count in counts]
            return ActionDataSample().set_gt_label(label).to(self.device)
        _, _, height, width = self.shape
        scale, actors = torch.tensor([width, height]), self.task.actors
        low = torch.rand(actors, 2) * 0.6 * scale
        labels = torch.randint(1, self.model.action_head.num_classes + 1, (actors, ))
        boxes = torch.cat((low, low + 0.4 * scale), 1)
        return ActionDataSample(gt_instances=InstanceData(
            bboxes=boxes, labels=labels)).to(self.device)


def peaks_of(path: str, task: Task, batches: Sequence[int]) -> list[float]:
    """MiB that steps take at most above all that stays, in a process of their own.

    What stays: weights, the clips, and in training gradients and the state of the
    optimiser.

    Args:
        path: The config file.
        task: What the step is.
        batches: Clips in the batches of which a peak is measured.
    """
    with get_context('spawn').Pool(1) as pool:
        return pool.apply(_peaks_here, (path, task, batches))


def _peaks_here(path: str, task: Task, batches: Sequence[int]) -> list[float]:
    with redirect_stdout(sys.stderr):  # what is built may print
        subject = Subject(path, task)
    peaks = []
    for batch in batches:
        step = subject.step(batch)
        for _ in range(WARM_UP):
            step()
        peaks.append(peak_megabytes(step, subject.device))
    return peaks
