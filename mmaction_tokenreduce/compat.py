# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What released mmaction2 and mmengine need on today's torch and numpy.

Every entry is one function. Its docstring says what breaks, where upstream knows of
it, and when the entry can go. :func:`apply` runs the entries that every program needs;
``import mmaction_tokenreduce`` calls it. An entry acts only where the fault is
present, and acts once. The last three entries concern distributed runs, most of all
those without CUDA; ``tools/train.py`` and ``tools/test.py`` call them.

What a library cannot mend (builds, version ranges) is left to ``setup.cfg`` and the
Makefile; faults of single mmaction2 models are mended in the subclasses in ``models``.
"""
import functools
import gc
import importlib.util
import inspect
import os
import pickle
import re
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy
import torch

DRN_PACKAGE = 'mmaction.models.localizers.drn'


def add_drn_stand_ins() -> bool:
    """Stand-ins for the modules that mmaction2's wheel leaves out.

    Breaks: ``import mmaction.models`` of mmaction2 1.2.0 from PyPI, because
    ``localizers/__init__.py`` imports ``localizers/drn``, which the wheel lacks.
    Upstream: mmaction2 issue #2714.
    Can go: with the first mmaction2 release whose wheel has the folder.

    The stand-in ``DRN`` is not registered; a config that names DRN is told so by the
    registry, and building the class directly raises ``RuntimeError``.

    Returns:
        bool: Whether stand-ins were put in place.
    """
    if DRN_PACKAGE in sys.modules:
        return False
    spec = importlib.util.find_spec('mmaction')
    if spec is None or not spec.submodule_search_locations:
        return False
    if any((Path(root) / 'models/localizers/drn/drn.py').is_file()
           for root in spec.submodule_search_locations):
        return False

    class DRN:
        """Says that mmaction2's DRN is not installed."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            raise RuntimeError(
                'DRN is missing from the installed mmaction2 wheel (mmaction2 issue '
                '#2714); install mmaction2 from its source to use it')

    package = types.ModuleType(DRN_PACKAGE, add_drn_stand_ins.__doc__)
    package.__path__ = []
    package.drn = types.ModuleType(f'{DRN_PACKAGE}.drn', add_drn_stand_ins.__doc__)
    package.drn.DRN = DRN
    sys.modules[DRN_PACKAGE] = package
    sys.modules[f'{DRN_PACKAGE}.drn'] = package.drn
    return True


def allow_mmengine_checkpoints() -> bool:
    """Let weights-only loading read what mmengine writes into checkpoints.

    Breaks: loading and resuming mmengine checkpoints with torch 2.6 and later, where
    ``torch.load`` reads weights only. Their message hub holds ``HistoryBuffer``
    objects, numpy arrays and numpy scalars.
    Upstream: mmengine issue #1655.
    Can go: when mmengine saves plain numbers, or registers its classes itself.

    Allowed are ``HistoryBuffer``, numpy's ``_reconstruct`` and ``scalar`` (under the
    module names of numpy 1 and of numpy 2), ``ndarray``, ``dtype`` and its classes,
    and ``getattr``: mmengine pickles ``HistoryBuffer.mean`` and the like as a call of
    it. The real ``getattr`` would undo the protection (from any function it reaches
    ``__builtins__``, which a pickle may then write to), so its name stands for
    :func:`_history_buffer_method` here.

    Returns:
        bool: Whether globals were added; False where torch is older than 2.6 and does
            not load weights only by default, and where they are allowed already.
    """
    if _release(torch.__version__) < (2, 6):
        return False
    wanted = _mmengine_globals()
    present = set(torch.serialization.get_safe_globals())
    if present.issuperset(wanted):
        return False
    torch.serialization.add_safe_globals(wanted)
    return True


def _mmengine_globals() -> list:
    """The (object, name in the pickle) pairs of ``allow_mmengine_checkpoints``."""
    from mmengine.logging import HistoryBuffer
    core = numpy._core if _release(numpy.__version__) >= (2, 0) else numpy.core
    pairs: list = [
        HistoryBuffer, numpy.ndarray, numpy.dtype,
        (_history_buffer_method, 'builtins.getattr')
    ]
    for module in ('numpy.core.multiarray', 'numpy._core.multiarray'):
        pairs += [(core.multiarray._reconstruct, f'{module}._reconstruct'),
                  (core.multiarray.scalar, f'{module}.scalar')]
    # a dtype is built as numpy.dtype(...) and then given its state, for which torch
    # looks up the class of the result (Float64DType and so on)
    pairs += sorted({type(numpy.dtype(code)) for code in numpy.typecodes['All']},
                    key=lambda kind: kind.__name__)
    return pairs


def _history_buffer_method(owner: Any, name: str) -> Any:
    """``getattr`` as far as mmengine checkpoints need it.

    Args:
        owner: What the pickle asks an attribute of; only HistoryBuffer is served.
        name (str): Only the public methods that the class itself defines are served.

    Returns:
        Callable: The method.

    Raises:
        pickle.UnpicklingError: For anything else.
    """
    from mmengine.logging import HistoryBuffer
    method = vars(HistoryBuffer).get(name) if owner is HistoryBuffer else None
    if not isinstance(method, types.FunctionType) or name.startswith('_'):
        raise pickle.UnpicklingError(
            f'getattr({owner!r}, {name!r}) is not allowed in a weights-only '
            'checkpoint, only the public methods of mmengine HistoryBuffer are')
    return method


def read_downloads_weights_only() -> bool:
    """Have checkpoints from addresses read weights-only, as local files are.

    Breaks: nothing, and that is the fault: ``load_from='https://…'`` goes through
    ``torch.hub.load_state_dict_from_url``, which unpickles whatever it is sent
    (``weights_only=False`` by default, torch 2.13).
    Upstream: mmengine 0.10.7, ``load_from_http``; no issue known.
    Can go: when torch's default changes, as that of ``torch.load`` did in 2.6.

    Returns:
        bool: Whether the function was replaced in this call.
    """
    from mmengine.runner import checkpoint
    original = checkpoint.load_url
    if isinstance(original, functools.partial) or 'weights_only' not in (
            inspect.signature(original).parameters):
        return False
    checkpoint.load_url = functools.partial(original, weights_only=True)
    return True


def score_heads_in_float32() -> bool:
    """Give mmaction2's heads float32 scores to compute loss and accuracy from.

    Breaks: bfloat16 training. ``BaseHead.loss_by_feat`` passes the scores through
    ``numpy()`` for the top-k accuracy, and numpy has no bfloat16 (TypeError).
    Upstream: the wheel's own configs use float16 only; no issue known.
    Can go: when mmaction2 computes the accuracy in torch or casts the scores.

    Heads that override ``loss_by_feat`` are left as they are. Float32 scores pass
    through unchanged.

    Returns:
        bool: Whether the method was wrapped in this call.
    """
    from mmaction.models.heads.base import BaseHead
    original = BaseHead.loss_by_feat
    if getattr(original, 'casts_bfloat16', False):
        return False

    @functools.wraps(original)
    def loss_by_feat(self: Any, cls_scores: torch.Tensor, data_samples: list) -> dict:
        if cls_scores.dtype == torch.bfloat16:
            cls_scores = cls_scores.float()
        return original(self, cls_scores, data_samples)

    loss_by_feat.casts_bfloat16 = True
    BaseHead.loss_by_feat = loss_by_feat
    return True


def average_precision_without_truth() -> bool:
    """Let AVAMetric evaluate a label map with a class that has no true box.

    Breaks: ``ava_eval`` with numpy 2, where such a class is predicted anywhere: its
    average precision is ``np.NAN``, a name that numpy removed.
    Upstream: mmaction2 1.2.0, ``ava_evaluation/metrics.py``; no issue known.
    Can go: when mmaction2 writes ``np.nan``.

    Returns:
        bool: Whether the function was wrapped in this call.
    """
    from mmaction.evaluation.functional.ava_evaluation import metrics
    original = metrics.compute_average_precision
    if hasattr(numpy, 'NAN') or getattr(original, 'knows_no_truth', False):
        return False

    @functools.wraps(original)
    def compute_average_precision(precision: Any, recall: Any) -> float:
        if precision is None and recall is None:
            return numpy.nan
        return original(precision, recall)

    compute_average_precision.knows_no_truth = True
    metrics.compute_average_precision = compute_average_precision
    return True


def augment_without_pytorchvideo() -> bool:
    """Give mmaction2's recipes RandAugment where pytorchvideo cannot be imported.

    Breaks: training from mmaction2's configs of MViT and UniFormerV2, whose pipelines
    have ``PytorchVideoWrapper(op='RandAugment')``: pytorchvideo 0.1.5, its last
    release, imports a module that torchvision removed in 0.17.
    Upstream: pytorchvideo, ``transforms/augmentations.py``; no release since 2022.
    Can go: with a pytorchvideo release that imports, or a RandAugment in mmaction2.

    The stand-in is ``RandAugment`` of ``datasets.transforms`` with pytorchvideo's
    defaults; like pytorchvideo's, it draws different operations, and on mmaction2's
    frames fills with black. Other operations (AugMix) raise a ``ValueError`` that says
    why. Where pytorchvideo works nothing changes.

    Returns:
        bool: Whether the class was changed in this call.
    """
    from mmaction.datasets.transforms import PytorchVideoWrapper
    original = PytorchVideoWrapper.__init__
    if getattr(original, 'has_stand_in', False):
        return False

    @functools.wraps(original)
    def __init__(self: Any, op: str, **kwargs: Any) -> None:
        problem = _import_problem('pytorchvideo.transforms')
        if problem is None:
            original(self, op, **kwargs)
            return
        if op != 'RandAugment':
            raise ValueError(
                f'PytorchVideoWrapper(op={op!r}) needs pytorchvideo, which cannot be '
                f'imported here ({problem}): take the step out')
        self.op, self.trans = op, _RandAugmentOfTensors(**kwargs)

    __init__.has_stand_in = True
    PytorchVideoWrapper.__init__ = __init__
    return True


class _RandAugmentOfTensors:
    """RandAugment of frames (T, C, H, W), uint8, with pytorchvideo's defaults."""

    def __init__(self, magnitude: float = 9, num_layers: int = 2, prob: float = 0.5
                 ) -> None:
        from .datasets.transforms import RandAugment
        self.augment = RandAugment(magnitude=magnitude, num_layers=num_layers,
                                   prob=prob, replace=False, fill=0)

    def __call__(self, frames: torch.Tensor) -> torch.Tensor:
        images = list(frames.permute(0, 2, 3, 1).contiguous().numpy())
        images = numpy.stack(self.augment({'imgs': images})['imgs'])
        return torch.from_numpy(images).permute(0, 3, 1, 2)


def _import_problem(name: str) -> ImportError | None:
    try:
        importlib.import_module(name)
    except ImportError as error:
        return error
    return None


def load_sharded_optimizer() -> bool:
    """Let a fully sharded run (FSDP) resume its optimiser.

    Breaks: resuming with mmengine's ``FSDPStrategy``, which passes the arguments of
    ``FullyShardedDataParallel.optim_state_dict_to_load`` in the order of torch 2.0
    (TypeError: unhashable type: 'dict').
    Upstream: mmengine 0.10.7, ``_strategy/fsdp.py``; no issue known.
    Can go: when mmengine passes them by name.

    Returns:
        bool: Whether the method was replaced in this call.
    """
    from mmengine._strategy import FSDPStrategy
    if getattr(FSDPStrategy.load_optim_state_dict, 'passes_names', False):
        return False

    def load_optim_state_dict(self: Any, state_dict: dict) -> None:
        optimizer = self.optim_wrapper.optimizer
        self.optim_wrapper.load_state_dict(
            torch.distributed.fsdp.FullyShardedDataParallel.optim_state_dict_to_load(
                model=self.model, optim=optimizer, optim_state_dict=state_dict))

    load_optim_state_dict.passes_names = True
    FSDPStrategy.load_optim_state_dict = load_optim_state_dict
    return True


def keep_epoch_of_checkpoint() -> bool:
    """Have FlexibleRunner store the epoch and iteration that it is told.

    Breaks: resuming a run of a ``FlexibleRunner`` with ``save_best``. A new best makes
    the hook save the epoch's checkpoint again after validation, with its epoch in
    ``meta``; the runner puts the next one there, and a resumed run skips an epoch.
    Upstream: mmengine 0.10.7, ``FlexibleRunner.save_checkpoint`` (``Runner`` keeps
    them); no issue known.
    Can go: when it uses ``meta.setdefault`` as ``Runner`` does.

    Returns:
        bool: Whether the method was wrapped in this call.
    """
    from mmengine.runner import FlexibleRunner
    original = FlexibleRunner.save_checkpoint
    if getattr(original, 'keeps_epoch', False):
        return False

    @functools.wraps(original)
    def save_checkpoint(self: Any, *args: Any, meta: dict | None = None,
                        **kwargs: Any) -> None:
        told = {key: meta[key] for key in ('epoch', 'iter') if key in (meta or {})}
        save = self.strategy.save_checkpoint

        def save_as_told(*, extra_ckpt: dict, **options: Any) -> None:
            extra_ckpt['meta'].update(told)
            save(extra_ckpt=extra_ckpt, **options)

        self.strategy.save_checkpoint = save_as_told
        try:
            original(self, *args, meta=meta, **kwargs)
        finally:
            del self.strategy.save_checkpoint

    save_checkpoint.keeps_epoch = True
    FlexibleRunner.save_checkpoint = save_checkpoint
    return True


def apply() -> list[str]:
    """Run every entry that is not tied to a distributed run; safe to repeat.

    Returns:
        list[str]: Names of the entries that changed something in this call.
    """
    entries = (add_drn_stand_ins, allow_mmengine_checkpoints,
               read_downloads_weights_only, score_heads_in_float32,
               average_precision_without_truth, augment_without_pytorchvideo,
               load_sharded_optimizer, keep_epoch_of_checkpoint)
    return [entry.__name__ for entry in entries if entry()]


def init_cpu_distributed(launcher: str, timeout: int | None = None) -> bool:
    """Start the gloo process group where a launched run finds no CUDA device.

    Breaks: ``--launcher pytorch`` on a CPU machine; mmengine's ``init_dist`` calls
    ``torch.cuda.set_device`` whatever the backend. A group that exists is left alone
    by mmengine, so it is made here first.
    Upstream: mmengine 0.10.7, ``mmengine/dist/utils.py``; no issue known.
    Can go: when mmengine sets the CUDA device only where there is one.

    Args:
        launcher (str): Value of ``--launcher``.
        timeout (int, optional): Seconds until a collective gives up
            (``env_cfg.dist_cfg.timeout``). Defaults to torch's own.

    Returns:
        bool: Whether this is a distributed run without an accelerator.

    Raises:
        ValueError: For a launcher other than ``pytorch`` on such a machine, and where
            the variables that torchrun sets are missing.
    """
    from mmengine.device import get_device
    if launcher == 'none' or get_device() != 'cpu':
        return False
    if launcher != 'pytorch':
        raise ValueError(
            f'--launcher {launcher} needs CUDA, and there is no accelerator here; on '
            'CPU use --launcher pytorch (tools/dist_train.sh)')
    missing = [key for key in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT')
               if key not in os.environ]
    if missing:
        raise ValueError(
            f'--launcher pytorch needs {", ".join(missing)} in the environment; start '
            'the tool with torchrun or tools/dist_train.sh')
    if not torch.distributed.is_initialized():
        limit = {} if timeout is None else {'timeout': timedelta(seconds=timeout)}
        torch.distributed.init_process_group('gloo', **limit)
    return True


@contextmanager
def end_process_group() -> Iterator[None]:
    """End the process group that a run has started, when the run succeeds.

    Breaks: the end of a process now and then, after its run has succeeded (with gloo
    and torch 2.13 about 8 of 290 on a busy machine); torchrun says that training
    failed. Where the group is left to the end of the interpreter, a thread of gloo that
    frees the last tensors may ask for the GIL too late. It is stopped there, and C++
    aborts: "terminate called without an active exception".
    Upstream: mmengine 0.10.7, whose ``Runner`` never ends the group; no issue known.
    Can go: when mmengine does.

    A group that was there before is left alone. So is that of a run that fails: other
    ranks may still wait in a collective, and ending the group would wait for them.

    The threads end with the last that holds the group. A model in
    ``DistributedDataParallel`` is let go of here; one in shards (FSDP) is kept by torch
    to the end, out of the collector's reach, and gloo's threads with it. With NCCL this
    was not tried.

    Yields:
        None: The context of the run.
    """
    # imported after the group is made, its default arguments would hold the group
    importlib.import_module('torch.distributed.nn')
    found = torch.distributed.is_initialized()
    yield
    if torch.distributed.is_initialized() and not found:
        # The model's wrapper holds the group as well. Were it freed later, it would end
        # the group with the GIL in its hands, and wait for threads that want the GIL.
        gc.collect()
        torch.distributed.destroy_process_group()


def cpu_model_wrapper(cfg: Any) -> None:
    """Have a distributed model wrapped without device ids on a machine without CUDA.

    Breaks: a distributed run on CPU, after ``init_cpu_distributed``: mmengine passes
    ``device_ids=[LOCAL_RANK]`` to ``DistributedDataParallel``, which refuses them for
    a model on the CPU, and ``device_id=LOCAL_RANK`` to FSDP, which finds no device.
    Upstream: mmengine 0.10.7, ``Runner.wrap_model`` and ``_wrap_model`` of its
    strategies; no issues known.
    Can go: when mmengine passes device ids for devices only.

    Args:
        cfg (mmengine.Config): The run's config; ``model_wrapper_cfg``, or for a
            FlexibleRunner ``strategy.model_wrapper``, is set in place, as mmengine
            would have wrapped the model otherwise. FSDP's state dicts are not
            offloaded then, see :func:`_keep_states_where_they_are`.
    """
    if cfg.get('runner_type') == 'FlexibleRunner':
        if cfg.get('strategy') is None:
            cfg.strategy = dict(type='DDPStrategy')
        if cfg.strategy.type == 'FSDPStrategy':
            wrapper = cfg.strategy.get('model_wrapper') or dict(
                type='MMFullyShardedDataParallel')
            cfg.strategy.model_wrapper = dict(wrapper, device_id='cpu')
            _keep_states_where_they_are(cfg.strategy)
        elif cfg.strategy.type == 'DDPStrategy':
            wrapper = cfg.strategy.get('model_wrapper') or dict(
                type='MMDistributedDataParallel', broadcast_buffers=False)
            cfg.strategy.model_wrapper = dict(wrapper, device_ids=None)
        return
    if cfg.get('model_wrapper_cfg') is None:
        cfg.model_wrapper_cfg = dict(
            type='MMDistributedDataParallel',
            broadcast_buffers=False,
            find_unused_parameters=cfg.get('find_unused_parameters', False))
    cfg.model_wrapper_cfg['device_ids'] = None


def _keep_states_where_they_are(strategy: Any) -> None:
    """Have FSDP's state dicts made without ``offload_to_cpu``.

    Breaks: saving where the model is on the CPU. torch crashes as weights are saved,
    and saves each state of the optimiser with the values of the last: its buffer is
    not copied.
    Upstream: torch 2.13, ``_unflatten_orig_param_states``; no issue known.
    Can go: when torch copies.

    Args:
        strategy (ConfigDict): An FSDPStrategy; ``state_dict_cfg`` is set in place.
    """
    states = strategy.get('state_dict_cfg')
    if states == 'full':  # which mmengine would write out like this
        states = dict(state_dict_type='FULL_STATE_DICT', **{
            key: dict(type=kind, rank0_only=True) for key, kind in (
                ('state_dict_config', 'FullStateDictConfig'),
                ('optim_state_dict_config', 'FullOptimStateDictConfig'))})
    if isinstance(states, dict):
        strategy.state_dict_cfg = {
            key: dict(value, offload_to_cpu=False) if isinstance(value, dict) else value
            for key, value in states.items()}


def _release(version: str) -> tuple[int, int]:
    """(major, minor) of a version string such as '2.13.0+cpu'."""
    major, minor = re.match(r'(\d+)\.(\d+)', version).groups()
    return int(major), int(minor)
