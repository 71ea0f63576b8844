# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""The learning rates of the released STTS code: new parts first, the host later."""
import math
from typing import Any

from mmaction.registry import PARAM_SCHEDULERS
from mmengine.optim import CosineAnnealingLR


@PARAM_SCHEDULERS.register_module()
class HeldCosineLR(CosineAnnealingLR):
    """A cosine from the first step on, with a learning rate of 0 for a while.

    Held at 0 are the parameters without ``learns_first=True`` in their entry of
    ``paramwise_cfg.custom_keys``. The values do not depend on earlier ones, so they
    are right after a resume. No other scheduler may set the learning rate.

    Args:
        *args: As for mmengine's ``CosineAnnealingLR``.
        hold (float): Epochs at 0; iterations where ``by_epoch=False``.
        **kwargs: As for mmengine's ``CosineAnnealingLR``.

    Raises:
        ValueError: If ``hold`` is negative.
    """

    def __init__(self, *args: Any, hold: float, **kwargs: Any) -> None:
        if hold < 0:
            raise ValueError(f'HeldCosineLR: hold={hold} is negative')
        self.hold = hold
        super().__init__(*args, **kwargs)

    @classmethod
    def build_iter_from_epoch(cls, *args: Any, hold: float, epoch_length: int,
                              **kwargs: Any) -> 'HeldCosineLR':
        """The same with iterations for epochs; see mmengine's."""
        return super().build_iter_from_epoch(
            *args, hold=int(hold * epoch_length), epoch_length=epoch_length, **kwargs)

    def _get_value(self) -> list[float]:
        share = (1 + math.cos(math.pi * self.last_step / self.T_max)) / 2
        return [
            self._cosine(base, share)
            if self.last_step >= self.hold or group.get('learns_first') else 0.0
            for base, group in zip(self.base_values, self.optimizer.param_groups,
                                   strict=True)
        ]

    def _cosine(self, base: float, share: float) -> float:
        low = base * self.eta_min_ratio if self.eta_min is None else self.eta_min
        return low + (base - low) * share
