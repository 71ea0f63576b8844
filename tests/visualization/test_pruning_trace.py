# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Which places prunings keep, seen through hooks, and the pictures of it."""
import cv2
import numpy as np
import pytest
import tiny_evad
import torch
from PIL import Image

from mmaction_tokenreduce.models import ReducedViT
from mmaction_tokenreduce.ops.pruning import kept_count
from mmaction_tokenreduce.visualization import (
    MergeTrace,
    PrunedGrid,
    PruningTrace,
    play_overlays,
    plot_overlays,
    pruning_overlays,
    token_grid,
)
from mmaction_tokenreduce.visualization.drawing import DIMMED, KEPT_COLOR

THW = (4, 4, 4)
VIT = dict(img_size=32, patch_size=8, embed_dims=24, num_heads=3, depth=4, num_frames=8)
SIZE = (3, 8, 32, 32)


def pruning(within, keep=0.7, **kwargs):
    return dict(type='KeyframePruning', within=within, keep=keep, **kwargs)


def vit(reducers, **kwargs):
    model = ReducedViT(**VIT, reducers=reducers, **kwargs)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def run(model, *args, sample=1):
    """What the trace says of one of two clips, and the places that are left at last."""
    x = torch.randn(2, *SIZE)
    with torch.no_grad(), PruningTrace(model) as trace:
        out = model(x, *args)
    return trace.pruned(sample, token_grid(model, SIZE[1:])), out


def test_places_are_those_that_the_encoder_hands_over():
    model = vit([pruning(0), pruning(1, 1), pruning(2, 0.6)], out_indices=(3, ))
    for sample in range(2):
        grids, clip = run(model, sample=sample)
        assert [(grid.where, grid.block) for grid in grids] == [
            ('within', 0), ('within', 1), ('within', 2)]
        first, idle, last = grids
        assert first.kept.sum() == kept_count(64, 0.7) == 45
        assert last.kept.sum() == kept_count(45, 0.6) == 27
        np.testing.assert_array_equal(np.flatnonzero(last.kept),
                                      clip.places[sample].sort().values.numpy())
        np.testing.assert_array_equal(idle.kept, first.kept)
        assert np.isnan(idle.importance).all()
        assert last.keyframe == 2 and last.counts[2] == 16
        assert not (last.kept & ~first.kept).any()
        np.testing.assert_array_equal(np.isnan(last.importance), ~first.kept)
        others = np.arange(4) != 2
        for grid in (first, last):
            kept = grid.importance[others][grid.kept[others]]
            gone = grid.importance[others][~grid.kept[others]]
            assert kept.min() >= np.nanmax(gone)
    assert last.summary() == 'within block 2: 27 of 64 tokens (42%)'


def test_random_and_unified_pruning():
    grids, _ = run(vit([dict(type='KeyframePruning', before=0, keep=0.5,
                             strategy='random')]))
    assert grids[0].where == 'before' and grids[0].kept.sum() == 32
    assert grids[0].counts[2] == 16 and not np.isnan(grids[0].importance).any()
    grids, clip = run(vit([pruning(1, 0.3, unified=True)], out_indices=(3, )))
    assert grids[0].kept.sum() == 20 and grids[0].counts[2] < 16
    assert set(np.flatnonzero(grids[0].kept)) == set(clip.places[1].tolist())


def test_keep_1_keeps_all():
    (grid, ), _ = run(vit([pruning(1, 1)]))
    assert grid.kept.all() and grid.summary().endswith('64 of 64 tokens (100%)')


def test_padding_goes_first():
    valid = torch.ones(2, 4, 4, dtype=torch.bool)
    valid[:, :, 3] = False
    (grid, ), _ = run(vit([pruning(1, 0.7)], out_indices=(3, )), valid)
    assert grid.kept[2].all()
    assert not grid.kept[[0, 1, 3]][..., 3].any()
    assert grid.kept.sum() == 45 and grid.kept[[0, 1, 3]][..., :3].sum() == 29


@pytest.mark.parametrize('spatial', [False, True])
def test_after_selection_places_are_of_the_whole_clip(spatial):
    """Of 3 of 4 frames, and of 2x2 of 4x4 places in each, the middle one is whole."""
    reducers = [dict(type='TemporalSelection', before=0, keep=0.75, strategy='uniform'),
                pruning(1, 0.8)]
    if spatial:
        reducers.insert(1, dict(type='SpatialSelection', before=0, keep=0.5,
                                strategy='random'))
    model = vit(reducers)
    kept_frames = []
    model.reducers[0].choose.register_forward_hook(
        lambda module, args, choice: kept_frames.append(choice.index[1].tolist()))
    (grid, ), _ = run(model)
    (frames, ) = kept_frames
    side = 2 if spatial else 4
    assert np.flatnonzero(grid.counts).tolist() == frames
    assert grid.keyframe == frames[1] and grid.counts[frames[1]] == side**2
    assert grid.kept.sum() == kept_count(3 * side**2, 0.8)
    assert (~np.isnan(grid.importance)).sum() == 3 * side**2
    if spatial:  # one region of each frame
        for t in frames:
            rows, columns = np.nonzero(~np.isnan(grid.importance[t]))
            assert np.ptp(rows) == np.ptp(columns) == 1


def test_detector_and_merges_after_it():
    model = tiny_evad.detector().eval()
    clip = tiny_evad.clip()
    batch = model.data_preprocessor(
        dict(inputs=[clip], data_samples=[tiny_evad.sample([])]), False)
    with torch.no_grad(), PruningTrace(model) as trace:
        places = model.encode(batch['inputs'], torch.tensor([[64., 96.]])).places
    grids = trace.pruned(0, token_grid(model, clip.shape[1:]))
    assert [grid.block for grid in grids] == [1, 3] and grids[0].kept.shape == (4, 4, 6)
    assert set(np.flatnonzero(grids[1].kept)) == set(places[0].tolist())
    model = vit([pruning(0), dict(type='TokenMerging', before=2, scope='clip')])
    with torch.no_grad(), PruningTrace(model) as trace, MergeTrace(model) as merges:
        model(torch.randn(2, *SIZE))
    (grid, ) = trace.pruned(1, THW)
    merged = merges.merged(1, THW)
    np.testing.assert_array_equal(merged.weight.sum(0) > 0, grid.kept)
    assert merged.summary() == '45 patches in 22 tokens, 19 dropped'


def test_mistakes():
    with pytest.raises(ValueError, match='ReducedViT holds no pruning to watch: its '
                                         'config has no KeyframePruning'):
        PruningTrace(vit([dict(type='TokenMerging', before=1)]))
    model = vit([pruning(1)])
    with torch.no_grad(), PruningTrace(model) as trace:
        with pytest.raises(ValueError, match='0 calls of 1 watched modules'):
            trace.pruned(0, THW)
        model(torch.randn(2, *SIZE))
        for sample in (2, -1):
            with pytest.raises(ValueError, match='the batch had 2 clips'):
                trace.pruned(sample, THW)
        with pytest.raises(ValueError, match='by the grid there are 32'):
            trace.pruned(0, (4, 4, 2))
        model(torch.randn(1, *SIZE))
    with pytest.raises(ValueError, match='2 calls of 1 watched modules'):
        trace.pruned(0, THW)
    assert not model.reducers[0].choose._forward_hooks
    with pytest.raises(ValueError, match='at least one pruning'):
        pruning_overlays([])


LEVEL = 200


def halves():
    """Two prunings of 3 frames of 1x2 places; frame 1 is the keyframe."""
    first, last = np.ones((2, 3, 1, 2), bool)
    first[0, 0, 0] = last[0, 0, 0] = last[2, 0] = False
    nothing = np.full((3, 1, 2), np.nan)
    return [PrunedGrid('within', block, kept, nothing, 1)
            for block, kept in ((3, first), (6, last))]


def area(picture, level):
    return (np.abs(picture.astype(int) - level).max(-1) <= 2).sum()


@pytest.mark.parametrize('suffix', ['png', 'pdf', 'svg'])
def test_still_picture_dims_what_was_dropped(tmp_path, suffix):
    path = tmp_path / f'kept.{suffix}'
    images = np.full((3, 20, 40, 3), LEVEL, np.uint8)
    plot_overlays(images, pruning_overlays(halves()), path, 'a clip')
    if suffix != 'png':
        assert path.stat().st_size > 1000
        return
    picture = cv2.imread(str(path))[..., ::-1]
    # of 18 places 1 is dark in the second row, 3 in the third
    share = area(picture, round(LEVEL * DIMMED)) / area(picture, LEVEL)
    assert share == pytest.approx(4 / 14, rel=0.08)
    green = [int(KEPT_COLOR[i:i + 2], 16) for i in (1, 3, 5)]
    assert area(picture, green) > 1500  # around the keyframe in three rows


def test_overlays_name_keyframe_and_counts(tmp_path):
    frames, first, last = pruning_overlays(halves())
    assert [frames.caption(t) for t in range(3)] == ['#0', '#1 keyframe', '#2']
    assert [last.count(t) for t in range(3)] == ['1/2', '2/2', '0/2']
    assert frames.kept.all() and frames.title == 'token frames, 6 tokens'
    assert first.title == 'kept within block 3: 5 of 6 tokens (83%)'
    assert not frames.legend() and not first.legend() and len(last.legend()) == 4
    path = tmp_path / 'kept.gif'
    play_overlays(np.full((6, 20, 40, 3), LEVEL, np.uint8), [frames, first, last], path)
    with Image.open(path) as moving:
        assert moving.n_frames == 6
        for f, places in ((0, 2), (2, 0), (5, 2)):
            moving.seek(f)
            picture = np.array(moving.convert('RGB'))
            dark = area(picture, round(LEVEL * DIMMED)) / area(picture, LEVEL)
            assert dark == pytest.approx(places / (6 - places), rel=0.12, abs=0.01)
