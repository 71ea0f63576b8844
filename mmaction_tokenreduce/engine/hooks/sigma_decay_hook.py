# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Linear decay of the perturbation noise (STTS, Sec. 3.2)."""

from mmaction.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...layers import PerturbedTopK


@HOOKS.register_module()
class SigmaDecayHook(Hook):
    """Decay sigma of every perturbed top-K linearly to 0 over training.

    Before iteration i of N, sigma is ``initial_sigma * (1 - i / (end * N))``, at least
    0. It is derived from the runner's iteration alone, so it is right after a resume.
    At 0 selection is hard and no gradient reaches the score networks. The current
    share of the initial sigma is logged as ``sigma_share``.

    Args:
        end: Share of all iterations at which sigma reaches 0, in (0, 1].

    Raises:
        ValueError: If ``end`` is outside (0, 1].
    """

    def __init__(self, end: float = 1.0) -> None:
        if not 0 < end <= 1:
            raise ValueError(f'SigmaDecayHook: end={end} is outside (0, 1]')
        self.end = end

    def before_train_iter(self,
                          runner: Runner,
                          batch_idx: int,
                          data_batch: dict | None = None) -> None:
        """Set sigma for this iteration."""
        share = max(1 - runner.iter / (self.end * runner.max_iters), 0.0)
        found = False
        for module in runner.model.modules():
            if isinstance(module, PerturbedTopK):
                module.sigma.fill_(module.initial_sigma * share)
                found = True
        if found:
            runner.message_hub.update_scalar('train/sigma_share', share)
