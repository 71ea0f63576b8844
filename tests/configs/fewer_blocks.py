# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Models of configs with fewer blocks: equal blocks cost the same, one is counted.

Blocks are equal that follow each other on the same tokens. Those at which a host
downscales its grid stand alone, and so do those just before them and before a reducer,
which may be asked for their attention.
"""
from collections.abc import Iterable, Mapping, MutableMapping

# mmaction2's archs of these names, which configs use.
MVIT_SMALL = dict(embed_dims=96, num_layers=16, num_heads=1,
                  downscale_indices=[1, 3, 14])
SWIN_BASE = dict(embed_dims=128, depths=[2, 2, 18, 2], num_heads=[4, 8, 16, 32])


def shorten(backbone: MutableMapping) -> Mapping[str, int]:
    """Leave one of equal blocks in a backbone's config, which is changed.

    Args:
        backbone: Of a MViT-B (arch 'small'), VideoSwin-B (arch 'base') or a
            TimeSformer; others are left as they are.

    Returns:
        How a part's name starts to how many equal parts it now stands for.
    """
    if backbone.type.endswith('TimeSformer'):
        return _shorten_timesformer(backbone)
    if backbone.get('arch') == 'small':
        return _shorten_mvit(backbone)
    if backbone.get('arch') == 'base':
        backbone.arch = dict(SWIN_BASE, depths=[2, 2, 2, 2])
        return {'backbone.layers.2.blocks.': 9}  # pairs, of which one is shifted
    return {}


def _shorten_timesformer(backbone: MutableMapping) -> Mapping[str, int]:
    depth = backbone.get('num_transformer_layers', 12)
    starts = _starts(depth, _places(backbone))
    _move_reducers(backbone, starts)
    backbone.num_transformer_layers = len(starts)
    return _lengths('backbone.transformer_layers.layers', starts, depth)


def _shorten_mvit(backbone: MutableMapping) -> Mapping[str, int]:
    depth, halved = MVIT_SMALL['num_layers'], MVIT_SMALL['downscale_indices']
    starts = _starts(depth, [*_places(backbone), *halved, *(i + 1 for i in halved)])
    _move_reducers(backbone, starts)
    backbone.arch = dict(MVIT_SMALL, num_layers=len(starts),
                         downscale_indices=[starts.index(i) for i in halved])
    return _lengths('backbone.blocks', starts, depth)


def _places(backbone: MutableMapping) -> list[int]:
    return [reducer.before for reducer in backbone.get('reducers', ())]


def _starts(depth: int, changes: Iterable[int]) -> list[int]:
    """Where runs of equal blocks begin if something changes before these blocks."""
    changes = set(changes)
    starts = {0} | changes | {i - 1 for i in changes}
    return sorted(i for i in starts if 0 <= i < depth)


def _move_reducers(backbone: MutableMapping, starts: list[int]) -> None:
    for reducer in backbone.get('reducers', ()):
        reducer.before = starts.index(reducer.before)


def _lengths(prefix: str, starts: list[int], depth: int) -> dict[str, int]:
    ends = [*starts[1:], depth]
    return {f'{prefix}.{i}.': end - start
            for i, (start, end) in enumerate(zip(starts, ends, strict=True))}
