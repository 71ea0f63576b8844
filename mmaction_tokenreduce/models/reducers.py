# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Reducers meet the registry here: config lists become modules at places of a host."""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mmaction.registry import MODELS
from mmengine.model import ModuleList
from torch import nn

from ..layers import GridReducer, SpatialSelection, TemporalSelection, TokenMerging

for _reducer in (TemporalSelection, SpatialSelection, TokenMerging):
    MODELS.register_module(module=_reducer)

Reducer = GridReducer | TokenMerging
Placed = dict[int, list[Reducer]]


@dataclass(frozen=True)
class Offer:
    """What a host can give to reducers.

    Attributes:
        host: Its name, for messages.
        channels: Width of the tokens before each block (or stage).
        no_cls_attention: Places before which there is no attention of a class token,
            and why.
        no_scores: Places before which there is no attention to tell which tokens
            matter, and why.
        merging: Whether its blocks can do without a grid.
        needs_regions: Why tokens of a frame cannot be chosen one by one; empty if they
            can.
    """
    host: str
    channels: Sequence[int]
    no_cls_attention: Mapping[int, str] = field(default_factory=dict)
    no_scores: Mapping[int, str] = field(default_factory=dict)
    needs_regions: str = ''
    merging: bool = False


def build_reducers(cfgs: Sequence[Mapping],
                   offer: Offer) -> tuple[ModuleList, Placed]:
    """Build the ``reducers`` of a host's config.

    Args:
        cfgs: One dict each: ``type``, ``before`` (index of a block, or of a stage in
            hosts that count stages) and the reducer's own arguments.
        offer: What the host can give.

    Returns:
        The modules in the order of the config, in a list whose ``init_weights`` calls
        theirs, and the same modules by the place they act before; at one place temporal
        selection comes first, merging last.

    Raises:
        ValueError: If a reducer is not one, its place does not exist, or it cannot
            serve there.
    """
    if not isinstance(cfgs, Sequence) or isinstance(cfgs, str):
        raise ValueError(f'{offer.host}: reducers={cfgs!r}: must be a list of dicts')
    modules, placed = ModuleList(), {}
    for number, cfg in enumerate(cfgs):
        where = f'{offer.host}: reducers[{number}]'
        if not isinstance(cfg, Mapping) or 'type' not in cfg:
            raise ValueError(f'{where}={cfg!r}: must be a dict with a type')
        cfg = dict(cfg)
        if 'in_channels' in cfg:
            raise ValueError(f'{where}: in_channels is given by the host, leave it out')
        place = cfg.pop('before', None)
        if type(place) is not int or not 0 <= place < len(offer.channels):
            raise ValueError(f'{where} ({cfg["type"]}): before={place!r}: allowed are '
                             f'0 to {len(offer.channels) - 1}')
        try:
            reducer = MODELS.build(dict(cfg, in_channels=offer.channels[place]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f'{where}: {error}') from error
        problem = _cannot_serve(reducer, place, offer)
        if problem:
            raise ValueError(f'{where} ({cfg["type"]}) before={place}: {problem}')
        modules.append(reducer)
        placed.setdefault(place, []).append(reducer)
    for reducers in placed.values():
        reducers.sort(key=lambda reducer: reducer.rank)
    return modules, placed


def _cannot_serve(reducer: nn.Module, place: int, offer: Offer) -> str | None:
    """Why a reducer cannot act at a place of a host, or None."""
    if isinstance(reducer, TokenMerging):
        if not offer.merging:
            return f'is not a grid reducer, and {offer.host} needs a grid of tokens'
        if reducer.needs_scores and place in offer.no_scores:
            return f'filter=True cannot serve here: {offer.no_scores[place]}'
    elif not isinstance(reducer, GridReducer):
        return 'is not a grid reducer' + (' and no merging' if offer.merging else '')
    elif getattr(reducer, 'unit', 'anchor') == 'token' and offer.needs_regions:
        return f"unit='token' cannot serve here: {offer.needs_regions}"
    elif reducer.needs_cls_attention and place in offer.no_cls_attention:
        return ("strategy='cls_attention' cannot serve here: "
                f'{offer.no_cls_attention[place]}')
    return None
