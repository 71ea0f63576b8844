# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Parameters and GFLOPs of configs/sttm, and of what its tables say of them."""
import copy
from collections import Counter
from functools import cache

import pytest
from config_files import (
    CONFIGS,
    ROOT,
    Cost,
    check_entry,
    check_index,
    full_count,
    load,
    metafile,
    table_rows,
    tables,
)
from config_files import cost as count

STTM = sorted(path.stem for path in (ROOT / 'configs/sttm').glob('*.py'))

# Table 6: GFLOPs of three crops and millions of parameters.
TABLE_6 = {
    'vit_small_dense_k400': (170, 21.8),
    'vit_small_k400': (99, 22.7),
    'vit_small_13f_k400': (164, 22.7),
    'vit_base_dense_k400': (540, 86.1),
    'vit_base_k400': (345, 89.6),
    'vit_base_11f_k400': (537, 89.6),
    'timesformer_dense_k400': (590, 121.6),
    'timesformer_k400': (368, 107.4),
    'timesformer_11f_k400': (572, 107.4),
}
# Figures of the paper that agree with each other (Tables 4, 5 and 6).
CONSISTENT = {
    'vit_small_dense_k400': 170,
    'vit_base_dense_k400': 540,
    'timesformer_dense_k400': 590,
    'timesformer_at3_ssv2': 330,
    'timesformer_at6_ssv2': 418,
    'timesformer_at9_ssv2': 505,
    'timesformer_at3_6_ssv2': 271,
    'timesformer_spatial_ssv2': 389,
}
# What its Table 4 implies where other tables print something else (SPEC, section 2).
IMPLIED = {
    'timesformer_r08_ssv2': 325,
    'timesformer_r06_ssv2': 366,
    'timesformer_k400': 392,
    'timesformer_r04_ssv2': 422,
    'timesformer_r02_ssv2': 498,
    'vit_base_k400': 368,
}


@cache
def sttm(name):
    """A config by its name; not to be changed."""
    return load(f'configs/sttm/{name}.py')


@cache
def cost(name):
    """One crop; models that differ in the number of classes alone are counted once."""
    cfg = copy.deepcopy(sttm(name))
    head = cfg.model.cls_head
    fewer, head.num_classes = 400 - head.num_classes, 400
    counted = count(cfg)
    return Cost(counted.flops - fewer * head.in_channels,
                counted.params - fewer * (head.in_channels + 1))


def gflops(name):
    """Those of a test: three crops."""
    return 3 * cost(name).gflops


@pytest.mark.parametrize('name', [
    'vit_small_ssv2', 'timesformer_at3_6_ssv2', 'timesformer_dense_mmaction2_k400'])
def test_fewer_layers_and_other_classes_are_counted_right(name):
    counted = full_count(sttm(name))
    assert cost(name) == Cost(counted.flops, counted.params)


@pytest.mark.parametrize('name', TABLE_6)
def test_parameters_of_table_6(name):
    assert cost(name).params / 1e6 == pytest.approx(TABLE_6[name][1], abs=0.1)


@pytest.mark.parametrize('name', CONSISTENT)
def test_gflops_of_the_paper(name):
    assert gflops(name) == pytest.approx(CONSISTENT[name], rel=0.015)


@pytest.mark.parametrize('name', IMPLIED)
def test_gflops_that_the_paper_implies(name):
    assert gflops(name) == pytest.approx(IMPLIED[name], rel=0.01)


def test_the_motion_feature_costs_what_the_paper_says():
    """Table 1: 5 GFLOPs."""
    extra = gflops('timesformer_ssv2') - gflops('timesformer_no_motion_ssv2')
    assert extra == pytest.approx(5, abs=0.5)


def products(name):
    """Multiply-adds of all matrix products in the layers and merges, by hand."""
    backbone = sttm(name).model.backbone
    width, frames = backbone.embed_dims, backbone.num_frames
    divided = backbone.attention_type == 'divided_space_time'
    merges = {merge['before']: merge for merge in backbone.reducers}
    tokens, total = frames * 196, 0
    for layer in range(12):
        if layer in merges:
            kept = 1 - merges[layer].get('ratio', 0.5)
            rows = frames if merges[layer]['scope'] == 'frame' else 1
            before, tokens = tokens // rows, rows * int(tokens // rows * kept + 1e-9)
            after = tokens // rows
            total += rows * (before * width**2 + 2 * after * width**2  # phi and fuse
                             + before**2 * width  # cosines among inputs
                             + 3 * before * after * width)  # eq. 4, 5 and 6
        divided &= layer not in merges
        if divided:
            # The linear layer after temporal attention, and both of the attentions.
            total += tokens * width**2 * (1 + 4)
            total += 2 * tokens * frames * width
            total += (tokens + frames) * width**2 * 4
            total += 2 * frames * (tokens // frames + 1)**2 * width
            total += (tokens + 1) * width**2 * 8  # the MLP
        else:
            total += (tokens + 1) * width**2 * 12 + 2 * (tokens + 1)**2 * width
    return total


@pytest.mark.parametrize('name', [
    'vit_small_k400', 'vit_small_13f_k400', 'vit_base_11f_k400', 'timesformer_k400',
    'timesformer_11f_k400', 'timesformer_global_ssv2', 'timesformer_r04_ssv2'])
def test_gflops_by_hand(name):
    """The rest: patch embedding (0.6 % or less of the whole) and normalisation."""
    backbone = sttm(name).model.backbone
    patches = backbone.num_frames * 196 * 768 * backbone.embed_dims
    assert cost(name).flops == pytest.approx(products(name) + patches, rel=0.01)


def expected_params(name):
    """The host; two linear layers for each merge; temporal attention before merges."""
    cfg = sttm(name)
    backbone, classes = cfg.model.backbone, cfg.model.cls_head.num_classes
    width, merges = backbone.embed_dims, backbone.get('reducers', ())
    layer = 12 * width**2 + 13 * width  # joint or spatial attention, MLP, two norms
    temporal = 5 * width**2 + 7 * width  # with its norm and the linear layer after it
    total = 12 * layer + (196 + 1 + 1 + backbone.num_frames + 768 + 1 + 2) * width
    if backbone.attention_type == 'divided_space_time':
        total += temporal * min([merge['before'] for merge in merges], default=12)
    for merge in merges:
        if merge.get('strategy') != 'bipartite':
            total += width**2 + width
            total += (2 * width**2 + width) * merge.get('motion', True)
    return total + (width + 1) * classes


@pytest.mark.parametrize('name', STTM)
def test_parameters(name):
    assert cost(name).params == expected_params(name)


@pytest.mark.parametrize('model', ['timesformer', 'vit_base'])
def test_baselines_cost_no_more(model):
    """No cosines among inputs to draw at random; no linear layers to match."""
    merged, drawn, matched = (cost(f'{model}_{kind}k400').flops
                              for kind in ('', 'random_', 'tome_'))
    assert matched < drawn < merged


def test_the_host_costs_what_mmaction2s_does():
    assert gflops('timesformer_dense_k400') == pytest.approx(
        gflops('timesformer_dense_mmaction2_k400'), rel=1e-4)


def test_every_config_is_in_the_table_once():
    assert STTM and sorted(table_rows('sttm')) == STTM
    assert {f'configs/sttm/{name}.py' for name in STTM} <= set(CONFIGS)


@pytest.mark.parametrize('name', STTM)
def test_the_table_says_what_is_counted(name):
    row = table_rows('sttm')[name]
    assert float(row['here']) == round(gflops(name), 2)
    if 'here, M' in row:
        assert float(row['here, M']) == round(cost(name).params / 1e6, 2)
    if name in TABLE_6:
        assert (float(row['paper']), float(row['paper, M'])) == TABLE_6[name]
    elif name in CONSISTENT:
        assert float(row['paper']) == CONSISTENT[name]
    if 'frames' in row:
        assert int(row['frames']) == sttm(name).model.backbone.num_frames


@pytest.mark.parametrize('name', STTM)
def test_the_table_says_what_is_merged(name):
    """[6, 9], 0.8: before which layers, and the ratio where it is not 0.5."""
    merges = sttm(name).model.backbone.get('reducers', ())
    shown = str([merge['before'] for merge in merges]) if merges else '-'
    ratios = {merge.get('ratio', 0.5) for merge in merges} - {0.5}
    assert len(ratios) < 2
    shown += ''.join(f', {ratio}' for ratio in ratios)
    assert table_rows('sttm')[name]['merges'].startswith(shown)
    if not merges:
        assert table_rows('sttm')[name]['merges'] == '-'


def test_the_docs_say_what_is_counted():
    """GFLOPs of docs/sttm.md, and the paper's as configs/sttm/README.md has them."""
    column = 'config in `configs/sttm/`'
    rows = [row for row in tables('docs/sttm.md') if '`' in row.get(column, '')]
    assert len(rows) == 20
    for row in rows:
        name = row[column].strip('`')
        assert row['here'] == f'{gflops(name):.1f}', name
        assert row['paper'] == table_rows('sttm')[name]['paper'], name
        assert row['implied'] == str(IMPLIED.get(name, '')), name


def test_the_docs_say_how_many_parameters_there_are():
    rows = [row for row in tables('docs/sttm.md') if 'merged, here' in row]
    names = {'ViT-S': 'vit_small', 'ViT-B': 'vit_base', 'TimeSformer': 'timesformer'}
    found = {names[row['']]: row for row in rows if row[''] in names}
    assert len(found) == 3
    for model, row in found.items():
        for form, kind in (('dense', '_dense'), ('merged', '')):
            name = f'{model}{kind}_k400'
            assert row[f'{form}, here'] == f'{cost(name).params / 1e6:.2f}'
            assert float(row[f'{form}, paper']) == TABLE_6[name][1]


def test_the_metafile_lists_every_config():
    check_index('sttm', STTM)


@pytest.mark.parametrize('model', metafile('sttm')['Models'],
                         ids=lambda model: model['Name'])
def test_the_metafile_says_what_is_counted(model):
    name = model['Name']
    top1 = table_rows('sttm')[name]['top-1']
    metrics = {} if top1 == '-' else {'Top 1 Accuracy (paper)': float(top1)}
    check_entry(model, sttm(name), cost(name), metrics)


def test_ablations_differ_in_one_thing_from_their_reference():
    """15 epochs, and all but the reducers as in the model's `_15e_` config."""
    compared = Counter()
    for name in STTM:
        cfg = sttm(name)
        if cfg.train_cfg.max_epochs != 15:
            continue
        model = next(m for m in ('timesformer', 'vit_base', 'vit_small')
                     if name.startswith(m))
        mine, reference = (dict(part.to_dict(), model=dict(
            part.model, backbone=dict(part.model.backbone, reducers=None)))
            for part in (cfg, sttm(f'{model}_15e_ssv2')))
        assert mine == reference, name
        compared[model] += 1
    assert compared == dict(timesformer=13, vit_base=2, vit_small=2)
