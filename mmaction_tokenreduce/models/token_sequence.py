# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Tokens between the blocks of a plain transformer, and what reducers do to them.

Selection (STTS) keeps the grid; merging (STTM) and pruning (EVAD) leave it. While
tokens of a frame stand side by side they can be merged within it; once a clip was
merged they belong to none. Pruned tokens carry their places with them.

Legend: B batch, E extra tokens (CLS), T H W grid, M tokens of a clip, C channels, D
dropped tokens.
"""
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..layers import Carried, GridReducer, KeyframePruning, Pruned, TokenMerging
from ..ops.grid import Size3
from ..ops.pruning import grid_places, keyframe_first, restore, take_tokens

__all__ = ['EncodedClip', 'TokenSequence', 'check_order', 'reduce_tokens']


class TokenSequence(NamedTuple):
    """Tokens between two blocks.

    Attributes:
        x: (B, E + M, C), time-major until tokens are pruned.
        num_extra: E.
        thw: Their grid, or that which ``places`` index; None once merged.
        num_frames: T, while tokens of a frame stand side by side; else None.
        positions: (B, M, C), their position embeddings, where merging needs them.
        places: (B, M) int64, where each stands in the flattened grid, once tokens were
            pruned; None while they fill it in order.
        valid: (B, M) bool, False for tokens of padding; None where all are valid.
        dropped: What was pruned, values (B, D, C) as of then and places (B, D), each
            time; filled where ``keeps_dropped``.
        keeps_dropped: Whether what is pruned is needed later.
    """
    x: Tensor
    num_extra: int
    thw: Size3 | None
    num_frames: int | None
    positions: Tensor | None
    places: Tensor | None = None
    valid: Tensor | None = None
    dropped: tuple[tuple[Tensor, Tensor], ...] = ()
    keeps_dropped: bool = False

    def current_places(self) -> Tensor:
        """Where each token stands in the flattened grid, (B, M)."""
        if self.places is not None:
            return self.places
        return grid_places(len(self.x), self.thw, self.x.device)

    def prune(self, x: Tensor, pruned: Pruned | None) -> 'TokenSequence':
        """After a pruning left the tokens x (None: it kept all)."""
        if pruned is None:
            return self._replace(x=x)
        positions, valid, index = self.positions, self.valid, pruned.index
        dropped = self.dropped
        if self.keeps_dropped:
            dropped += ((pruned.dropped, pruned.dropped_places), )
        return self._replace(
            x=x, num_frames=None, places=pruned.places, dropped=dropped,
            positions=None if positions is None else take_tokens(positions, index),
            valid=None if valid is None else valid.gather(1, index))

    def restored(self) -> Tensor:
        """(B, T*H*W, C), where what was dropped holds its value as of then.

        It needs ``keeps_dropped``, and has no extra tokens.
        """
        if self.places is None:
            return self.x
        return restore([(self.x, self.places), *self.dropped])

    def keyframe_map(self, unified: bool) -> Tensor:
        """The middle frame (B, C, H, W), contiguous.

        Args:
            unified: Whether its tokens were pruned as all others; then what was dropped
                of it holds its value as of then.
        """
        t, h, w = self.thw
        if self.places is None or unified:
            frame = self.restored().unflatten(1, (t, h * w))[:, t // 2]
        else:
            frame = self.x[:, :h * w]  # pruning puts it first
        return frame.transpose(1, 2).unflatten(2, (h, w)).contiguous()

    def encode(self, norm: nn.Module, keyframe_maps: Sequence[Tensor],
               with_dropped: bool) -> 'EncodedClip':
        """What a detector is handed.

        Args:
            norm: The final norm.
            keyframe_maps: See :class:`EncodedClip`.
            with_dropped: Whether what was dropped is handed over too.
        """
        x, places, valid = self.x, self.places, self.valid
        if places is None:
            order = keyframe_first(self.thw, x.device).expand(len(x), -1)
            x, places = take_tokens(x, order), order
            valid = None if valid is None else valid.gather(1, order)
        lost = None
        if with_dropped:
            none = x[:, :0], places[:, :0]
            values, where = (torch.cat(group, dim=1)
                             for group in zip(none, *self.dropped, strict=True))
            lost = norm(values), where
        return EncodedClip(norm(x), places, self.thw, tuple(keyframe_maps), valid, lost)


class EncodedClip(NamedTuple):
    """What an encoder hands to a detector (EVAD, Fig. 2).

    The keyframe is token frame T'//2. M tokens are left of T'*H'*W'.

    Attributes:
        tokens: (B, M, C), after the final norm. Those of the keyframe come first, row
            by row. The others follow in descending importance where tokens were pruned,
            as the last pruning ranked them; else those of the frames before the
            keyframe and then those after it, time-major. After unified pruning, which
            may drop tokens of the keyframe, all stand in descending importance.
        places: (B, M) int64, where each token stands in the flattened time-major grid.
        thw: The grid (T', H', W') of the clip.
        keyframe_maps: The keyframe (B, C, H', W') after each of the blocks that were
            asked for, before the final norm. Where unified pruning dropped a token, its
            place holds its value of when it was dropped.
        valid: (B, M) bool, False for a token of padding; None where all are valid.
        dropped: Where asked for, what was pruned: values (B, D, C) as of when they were
            dropped, after the final norm, and their places (B, D).
    """
    tokens: Tensor
    places: Tensor
    thw: Size3
    keyframe_maps: tuple[Tensor, ...]
    valid: Tensor | None = None
    dropped: tuple[Tensor, Tensor] | None = None


def check_order(before: dict[int, list[nn.Module]], host: str,
                within: dict[int, list[nn.Module]] | None = None) -> None:
    """Refuse reducers that cannot follow those before them.

    Args:
        before: Reducers by the block they act before, in the order in which they act.
        host: The host's name, for messages.
        within: Reducers by the block they act within.

    Raises:
        ValueError: If a selector, a pruning or a merge within frames comes after what
            leaves it no grid, no places or no frames, a filtering merge comes right
            after another, a pruning right after another, or prunings differ in
            ``unified``.
    """
    acts = [(block, key, reducer)
            for key, placed in (('before', before), ('within', within or {}))
            for block, reducers in placed.items() for reducer in reducers]
    past: dict[str, str] = {}  # what happened to the tokens, and where
    unified = None
    for block, key, reducer in sorted(acts, key=lambda act: act[:2]):  # stable
        where = f'{key}={block}'
        name = f'{host}: {type(reducer).__name__}'
        if isinstance(reducer, GridReducer):
            _check_selector(f'{name} {where}', past)
        elif isinstance(reducer, KeyframePruning) and reducer.keep != 1:
            _check_pruning(f'{name} {where}', where, past)
            if unified not in (None, reducer.unified):
                raise ValueError(f'{name} {where}: unified={reducer.unified}, but an '
                                 f'earlier pruning has unified={unified}: allowed is '
                                 'one for all')
            past['pruned'], unified = where, reducer.unified
        elif isinstance(reducer, TokenMerging) and reducer.ratio:
            _check_merge(reducer, name, where, past)
            past['merged'] = where
            if reducer.scope == 'clip':
                past['clip'] = where


def _check_selector(name: str, past: dict[str, str]) -> None:
    for kind, what in (('merged', 'merging'), ('pruned', 'pruning')):
        if kind in past:
            raise ValueError(f'{name}: {what} {past[kind]} left no grid to select from;'
                             ' select first')


def _check_pruning(name: str, where: str, past: dict[str, str]) -> None:
    if 'merged' in past:
        raise ValueError(f'{name}: merging {past["merged"]} left no keyframe to prune '
                         'around; prune first')
    if past.get('pruned') == where:
        raise ValueError(f'{name}: another pruning acts there too; allowed is one')


def _check_merge(merging: TokenMerging, name: str, where: str,
                 past: dict[str, str]) -> None:
    if past.get('merged') == where and merging.needs_scores:
        raise ValueError(f'{name} {where}: filter=True cannot serve after another merge'
                         ' at the same place: nothing has attended to the merged tokens'
                         ' yet; allowed is filter=False')
    if merging.scope == 'frame':
        name = f"{name} (scope='frame') {where}"
        if 'clip' in past:
            raise ValueError(f'{name}: the clip was merged {past["clip"]} '
                             "(scope='clip') and its tokens belong to no frame; merge "
                             "frames first, or use scope='clip'")
        if 'pruned' in past:
            raise ValueError(f'{name}: pruning {past["pruned"]} left frames of unequal '
                             "size; use scope='clip'")


def reduce_tokens(reducers: Sequence[nn.Module], tokens: TokenSequence,
                  scores: Tensor | None) -> TokenSequence:
    """Run the reducers before a block.

    Args:
        reducers: In the order in which they act; see :func:`check_order`.
        tokens: What the block before left.
        scores: (B, M) attention that the tokens got there, where it was asked for.
    """
    for reducer in reducers:
        if isinstance(reducer, GridReducer):
            carried = Carried(None, scores, tokens.positions)
            x, thw, carried = reducer(tokens.x, tokens.thw, carried)
            scores = carried.cls_attention
            tokens = tokens._replace(x=x, thw=thw, num_frames=thw[0],
                                     positions=carried.positions)
        elif isinstance(reducer, KeyframePruning):
            x, pruned = reducer(tokens.x, tokens.current_places(), tokens.thw,
                                valid=tokens.valid)
            tokens = tokens.prune(x, pruned)
            if pruned is not None and scores is not None:
                scores = scores.gather(1, pruned.index)
        elif reducer.ratio:
            tokens = _merge(reducer, tokens, scores)
            scores = None  # they were those of other tokens
    return tokens


def _merge(merging: TokenMerging, tokens: TokenSequence,
           scores: Tensor | None) -> TokenSequence:
    extra, x = tokens.x[:, :tokens.num_extra], tokens.x[:, tokens.num_extra:]
    rows = [None if part is None else merging.rows(part, tokens.num_frames)
            for part in (x, tokens.positions, scores)]
    y, positions = merging(*rows)
    # Frames of a clip stand one after another again.
    y = y.reshape(len(x), -1, y.shape[-1])
    if positions is not None:
        positions = positions.reshape(len(x), -1, positions.shape[-1])
    return tokens._replace(
        x=torch.cat((extra, y), dim=1) if tokens.num_extra else y, thw=None,
        num_frames=tokens.num_frames if merging.scope == 'frame' else None,
        positions=positions, places=None)
