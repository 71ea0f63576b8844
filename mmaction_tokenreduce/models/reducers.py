# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Reducers meet the registry here: config lists become modules at places of a host."""
from collections.abc import Mapping, Sequence

from mmaction.registry import MODELS
from torch import nn

from ..layers import GridReducer, SpatialSelection, TemporalSelection

for _reducer in (TemporalSelection, SpatialSelection):
    MODELS.register_module(module=_reducer)

Placed = dict[int, list[GridReducer]]


def build_reducers(cfgs: Sequence[Mapping], channels: Sequence[int], host: str,
                   no_cls_attention: Mapping[int, str]
                   ) -> tuple[nn.ModuleList, Placed]:
    """Build the ``reducers`` of a host's config.

    Args:
        cfgs: One dict each: ``type``, ``before`` (index of a block, or of a stage in
            hosts that count stages) and the reducer's own arguments.
        channels: Width of the tokens before each block (or stage) of the host.
        host: The host's name, for messages.
        no_cls_attention: Places before which there is no attention of a class token
            to rank by, and why.

    Returns:
        The modules in the order of the config, and the same modules by the place they
        act before; at one place temporal selection comes first.

    Raises:
        ValueError: If a reducer is not one, its place does not exist, or its strategy
            cannot serve there.
    """
    modules, placed = nn.ModuleList(), {}
    for number, cfg in enumerate(cfgs):
        where = f'{host}: reducers[{number}]'
        if not isinstance(cfg, Mapping) or 'type' not in cfg:
            raise ValueError(f'{where}={cfg!r}: must be a dict with a type')
        cfg = dict(cfg)
        if 'in_channels' in cfg:
            raise ValueError(f'{where}: in_channels is given by the host, leave it out')
        place = cfg.pop('before', None)
        if not isinstance(place, int) or not 0 <= place < len(channels):
            raise ValueError(f'{where} ({cfg["type"]}): before={place!r}: allowed are '
                             f'0 to {len(channels) - 1}')
        try:
            reducer = MODELS.build(dict(cfg, in_channels=channels[place]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f'{where}: {error}') from error
        if not isinstance(reducer, GridReducer):
            raise ValueError(f'{where}: type={cfg["type"]!r} is not a grid reducer')
        if reducer.needs_cls_attention and place in no_cls_attention:
            raise ValueError(f"{where} ({cfg['type']}): strategy='cls_attention' "
                             f'cannot serve before={place}: {no_cls_attention[place]}')
        modules.append(reducer)
        placed.setdefault(place, []).append(reducer)
    for reducers in placed.values():
        reducers.sort(key=lambda reducer: reducer.rank)
    return modules, placed
