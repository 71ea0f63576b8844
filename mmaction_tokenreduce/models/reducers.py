# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Reducers meet the registry here: config lists become modules at places of a host."""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mmaction.registry import MODELS
from mmengine.model import ModuleList
from torch import nn

from ..layers import (
    GridReducer,
    KeyframePruning,
    SpatialSelection,
    TemporalSelection,
    TokenMerging,
)

for _reducer in (TemporalSelection, SpatialSelection, TokenMerging, KeyframePruning):
    MODELS.register_module(module=_reducer)

Reducer = GridReducer | TokenMerging | KeyframePruning
Placed = dict[int, list[Reducer]]


class Reducers(NamedTuple):
    """The reducers of a host.

    Attributes:
        modules: In the order of the config; their ``init_weights`` are called.
        before: The same by the block or stage they act before, in the order in which
            they act.
        within: The same by the block they act within.
    """
    modules: ModuleList
    before: Placed
    within: Placed


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
        pruning: Whether reducers can act within its blocks, and tokens stand anywhere.
        needs_regions: Why tokens of a frame cannot be chosen one by one; empty if they
            can.
    """
    host: str
    channels: Sequence[int]
    no_cls_attention: Mapping[int, str] = field(default_factory=dict)
    no_scores: Mapping[int, str] = field(default_factory=dict)
    needs_regions: str = ''
    merging: bool = False
    pruning: bool = False


def build_reducers(cfgs: Sequence[Mapping], offer: Offer) -> Reducers:
    """Build the ``reducers`` of a host's config.

    Args:
        cfgs: One dict each: ``type``, ``before`` (index of a block, or of a stage in
            hosts that count stages) or ``within`` (index of a block, between its
            attention and its MLP) and the reducer's own arguments.
        offer: What the host can give.

    Returns:
        The modules and where they act; before one place temporal selection comes first,
        merging last.

    Raises:
        ValueError: If a reducer is not one, its place does not exist, or it cannot
            serve there.
    """
    if not isinstance(cfgs, Sequence) or isinstance(cfgs, str):
        raise ValueError(f'{offer.host}: reducers={cfgs!r}: must be a list of dicts')
    built = Reducers(ModuleList(), {}, {})
    for number, cfg in enumerate(cfgs):
        where = f'{offer.host}: reducers[{number}]'
        if not isinstance(cfg, Mapping) or 'type' not in cfg:
            raise ValueError(f'{where}={cfg!r}: must be a dict with a type')
        cfg = dict(cfg)
        if 'in_channels' in cfg:
            raise ValueError(f'{where}: in_channels is given by the host, leave it out')
        key = 'within' if 'within' in cfg else 'before'
        if 'within' in cfg and 'before' in cfg:
            raise ValueError(f'{where} ({cfg["type"]}): before and within exclude each '
                             'other')
        place = cfg.pop(key, None)
        if type(place) is not int or not 0 <= place < len(offer.channels):
            raise ValueError(f'{where} ({cfg["type"]}): {key}={place!r}: allowed are '
                             f'0 to {len(offer.channels) - 1}')
        try:
            reducer = _build(cfg, offer.channels[place])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f'{where}: {error}') from error
        problem = _cannot_serve(reducer, key, place, offer)
        if problem:
            raise ValueError(f'{where} ({cfg["type"]}) {key}={place}: {problem}')
        built.modules.append(reducer)
        getattr(built, key).setdefault(place, []).append(reducer)
    for reducers in built.before.values():
        reducers.sort(key=lambda reducer: reducer.rank)
    return built


def _build(cfg: dict, channels: int) -> nn.Module:
    kind = cfg['type']
    kind = MODELS.get(kind) if isinstance(kind, str) else kind
    if kind is not KeyframePruning:  # it has no parameters
        cfg = dict(cfg, in_channels=channels)
    # The scope is that of the config that is being built, mmdet's for a detector.
    return MODELS.build({'_scope_': 'mmaction', **cfg})


def _cannot_serve(reducer: nn.Module, key: str, place: int, offer: Offer) -> str | None:
    """Why a reducer cannot act at a place of a host, or None."""
    if isinstance(reducer, KeyframePruning):
        if not offer.pruning:
            return (f'{offer.host} cannot drop single tokens; hosts that can are: '
                    'ReducedViT')
        if key == 'before' and reducer.choose.needs_attention:
            return ("strategy='attention' ranks tokens by the attention of the block "
                    f'that it acts within: write within={place}')
    elif key == 'within' and isinstance(reducer, GridReducer | TokenMerging):
        return f'acts between blocks: write before={place}'
    elif isinstance(reducer, TokenMerging):
        if not offer.merging:
            return f'is not a grid reducer, and {offer.host} needs a grid of tokens'
        if reducer.needs_scores and place in offer.no_scores:
            return f'filter=True cannot serve here: {offer.no_scores[place]}'
    elif not isinstance(reducer, GridReducer):
        return ('is not a grid reducer' + (' and no merging' if offer.merging else '')
                + (' or pruning' if offer.pruning else ''))
    elif getattr(reducer, 'unit', 'anchor') == 'token' and offer.needs_regions:
        return f"unit='token' cannot serve here: {offer.needs_regions}"
    elif reducer.needs_cls_attention and place in offer.no_cls_attention:
        return ("strategy='cls_attention' cannot serve here: "
                f'{offer.no_cls_attention[place]}')
    return None
