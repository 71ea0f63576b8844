# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Tokens between the blocks of a plain transformer, and what reducers do to them.

Selection (STTS) keeps the grid; merging (STTM) leaves it. While tokens of a frame stand
side by side they can be merged within it; once a clip was merged they belong to none.

Legend: B batch, E extra tokens (CLS), T frames, M tokens of a clip, C channels.
"""
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..layers import Carried, GridReducer, TokenMerging
from ..ops.grid import Size3

__all__ = ['EncodedClip', 'TokenSequence', 'check_order', 'reduce_tokens']


class TokenSequence(NamedTuple):
    """Tokens between two blocks.

    Attributes:
        x: (B, E + M, C), time-major.
        num_extra: E.
        thw: Their grid; None once merged.
        num_frames: T, while tokens of a frame stand side by side; else None.
        positions: (B, M, C), their position embeddings, where merging needs them.
    """
    x: Tensor
    num_extra: int
    thw: Size3 | None
    num_frames: int | None
    positions: Tensor | None


class EncodedClip(NamedTuple):
    """What an encoder hands to a detector (EVAD, Fig. 2).

    The keyframe is token frame T'//2. M tokens are left of T'*H'*W'.

    Attributes:
        tokens: (B, M, C), after the final norm. Those of the keyframe come first, row
            by row. The others follow in descending importance where tokens were pruned,
            as the last pruning ranked them; else those of the frames before the
            keyframe and then those after it, time-major.
        places: (B, M) int64, where each token stands in the flattened time-major grid.
        thw: The grid (T', H', W') of the clip.
        keyframe_maps: The keyframe (B, C, H', W') after each of the blocks that were
            asked for, before the final norm.
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


def check_order(placed: dict[int, list[nn.Module]], host: str) -> None:
    """Refuse reducers that cannot follow those before them.

    Args:
        placed: Reducers by the block they act before, in the order in which they act.
        host: The host's name, for messages.

    Raises:
        ValueError: If a selector or a merge within frames comes after what leaves it no
            grid or no frames, or a filtering merge right after another.
    """
    merged = clip_merged = None  # the blocks before which that happened
    for place in sorted(placed):
        for reducer in placed[place]:
            name = f'{host}: {type(reducer).__name__}'
            if isinstance(reducer, GridReducer):
                if merged is not None:
                    raise ValueError(f'{name} before={place}: merging before={merged} '
                                     'left no grid to select from; select first')
            elif reducer.ratio:
                if merged == place and reducer.needs_scores:
                    raise ValueError(
                        f'{name} before={place}: filter=True cannot serve after '
                        'another merge at the same place: nothing has attended to the '
                        'merged tokens yet; allowed is filter=False')
                if reducer.scope == 'frame' and clip_merged is not None:
                    raise ValueError(
                        f"{name} (scope='frame') before={place}: the clip was merged "
                        f"before={clip_merged} (scope='clip') and its tokens belong to "
                        "no frame; merge frames first, or use scope='clip'")
                merged = place
                if reducer.scope == 'clip':
                    clip_merged = place


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
        positions=positions)
