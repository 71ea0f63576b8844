# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Parameters and GFLOPs of configs/dvt, and of what its tables say of them."""
import copy
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

DVT = sorted(path.stem for path in (ROOT / 'configs/dvt').glob('*.py'))

# Table 2: millions of parameters and GFLOPs.
TABLE_2 = {
    'mvit_st_k400': (31.9, 57.4),
    'mvit_ms_k400': (32.4, 61.3),
    'mvit_stms_linear_k400': (45.1, 81.9),
    'mvit_stms_k400': (73.9, 128.3),
}
# Table 4: GFLOPs.
TABLE_4 = {
    'mvit_stms_32f_k400': 259,
    'timesformer_stms_k400': 325,
    'timesformer_stms_336_k400': 731,
    'timesformer_stms_448_k400': 1300,
}


@cache
def cost(name):
    """Of one view; models that differ in their classes alone are counted once."""
    cfg = load(f'configs/dvt/{name}.py')
    head = cfg.model.cls_head
    width = head.get('head', head).in_channels
    fewer = 400 - (head.get('num_classes') or 97 + 300)
    twin = copy.deepcopy(cfg)
    if head.type == 'VerbNounHead':
        twin.model.cls_head = dict(head.head, num_classes=400, average_clips='prob')
    else:
        twin.model.cls_head.num_classes = 400
    counted = count(twin)
    return Cost(counted.flops - fewer * width, counted.params - fewer * (width + 1))


@pytest.mark.parametrize('name', ['timesformer_stms_8f_ssv2', 'mvit_st_k400'])
def test_counting_fewer_blocks_gives_what_the_whole_model_does(name):
    cfg = load(f'configs/dvt/{name}.py')
    counted = Cost.of(full_count(cfg))
    assert counted == count(cfg) == cost(name)


@pytest.mark.parametrize('name', TABLE_2)
def test_size_and_cost_of_table_2(name):
    params, gflops = TABLE_2[name]
    assert cost(name).params / 1e6 == pytest.approx(params, rel=0.015)
    assert cost(name).gflops <= gflops


@pytest.mark.parametrize('name', TABLE_4)
def test_cost_of_table_4(name):
    assert cost(name).gflops <= TABLE_4[name]


def test_more_points_and_longer_sub_clips_cost_more():
    costs = [cost(f'mvit_stms_{part}k400').flops for part in ('n4_', '', 'n16_')]
    assert costs == sorted(costs)
    costs = [cost(f'mvit_stms_{part}k400').flops for part in ('b8_', '', 'b2_', 'b1_')]
    assert costs == sorted(costs)


def test_every_config_is_in_the_table_once():
    assert DVT and sorted(table_rows('dvt')) == DVT
    assert {f'configs/dvt/{name}.py' for name in DVT} <= set(CONFIGS)


@pytest.mark.parametrize('name', DVT)
def test_the_table_says_what_is_counted(name):
    row = table_rows('dvt')[name]
    assert float(row['here']) == round(cost(name).gflops, 2)
    assert float(row['here, M']) == round(cost(name).params / 1e6, 2)
    if name in TABLE_2:
        assert (float(row['paper, M']), float(row['paper'])) == TABLE_2[name]
    elif name in TABLE_4:
        assert float(row['paper']) == TABLE_4[name]


@pytest.mark.parametrize('row', [
    row for row in tables('docs/dvt.md') if row.get('config', '').strip('`') in DVT
], ids=lambda row: row['config'])
def test_the_page_says_the_same(row):
    counted = cost(row['config'].strip('`'))
    gflops = row.get('here, GFLOPs') or row['here']
    assert float(gflops) == round(counted.gflops, 2)
    assert float(row['here, M']) == round(counted.params / 1e6, 2)


def test_the_metafile_lists_every_config():
    check_index('dvt', DVT)


@pytest.mark.parametrize('model', metafile('dvt')['Models'], ids=lambda m: m['Name'])
def test_the_metafile_says_what_is_counted(model):
    row = table_rows('dvt')[model['Name']]
    names = {'top-1': 'Top 1 Accuracy (paper)', 'action': 'Action Top 1 (paper)',
             'verb': 'Verb Top 1 (paper)', 'noun': 'Noun Top 1 (paper)'}
    metrics = {name: float(row[column]) for column, name in names.items()
               if row.get(column, '-') != '-'}
    check_entry(model, load(model['Config']), cost(model['Name']), metrics)
