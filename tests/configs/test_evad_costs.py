# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Parameters and GFLOPs of configs/evad, and of what its tables say of them."""
import math
from functools import cache

import pytest
from config_files import (
    EVAD,
    build,
    check_index,
    default_input_shape,
    full_count,
    load,
    metafile,
    on_meta,
    table_rows,
)

# GFLOPs of the released code (SPEC, section 3), which are the paper's (Tables 2 to 4).
RELEASED = {
    'vit_base_keep10_224_ava': 223.8, 'vit_base_keep10_ava': 424.5,
    'vit_base_keep09_224_ava': 186.3, 'vit_base_keep09_ava': 346.3,
    'vit_base_keep08_224_ava': 157.0, 'vit_base_keep08_ava': 287.4,
    'vit_base_224_ava': 134.2, 'vit_base_ava': 242.8,
    'vit_base_keep06_224_ava': 116.3, 'vit_base_keep06_ava': 208.9,
    'vit_base_keep10_256_ava': 311.9, 'vit_base_256_ava': 182.3,
    'vit_large_ava': 737.0, 'vit_base_all_tokens_224_ava': 156.1,
    'vit_base_random_224_ava': 158.9,
}
# Blocks, stages and decoder of the released code.
SPLIT = {
    'vit_base_keep10_224_ava': (178.6, 8.9, 30.7),
    'vit_base_224_ava': (111.2, 8.9, 8.8),
}
# Configs that are counted; the others by the hand that these agree with.
COUNTED = [*SPLIT, 'vit_base_keep06_ava', 'vit_large_ava', 'vit_base_linear_224_ava',
           'vit_base_all_tokens_224_ava', 'vit_base_random_224_ava']
CLASSES = dict(ava=80, kinetics=80, ucf24=24, jhmdb=21, split2=21, split3=21)


def evad(name):
    """A config by its name; not to be changed."""
    return load(f'configs/evad/{name}.py')


@cache
def counted(name):
    with on_meta():
        return full_count(evad(name))


@cache
def params(name):
    with on_meta():
        return sum(p.numel() for p in build(evad(name)).parameters())


def lengths(backbone, places):
    """Tokens before and after the pruning of each block, and those that were dropped.

    ``places`` are those of a frame, of which there are 8.
    """
    tokens, rows = 8 * places, []
    keep = {(key, r[key]): r.keep for r in backbone.reducers
            for key in ('before', 'within') if key in r}
    for block in range(backbone.depth):
        tokens = math.ceil(tokens * keep.get(('before', block), 1) - 1e-9)
        after = math.ceil(tokens * keep.get(('within', block), 1) - 1e-9)
        rows.append((tokens, after))
        tokens = after
    return rows, 8 * places - tokens


def by_hand(name):
    """Multiply-adds of one clip, part by part."""
    cfg = evad(name)
    backbone, head = cfg.model.backbone, cfg.model.action_head
    width = backbone.embed_dims
    places = (default_input_shape(cfg)[2] // 16)**2
    rows, dropped = lengths(backbone, places)
    kept = rows[-1][1]
    cost = dict(backbone=8 * places * 2 * 16 * 16 * 3 * width + 5 * kept * width)
    for before, after in rows:  # attention, MLP, both norms
        cost['backbone'] += (4 * before * width**2 + 2 * before**2 * width
                             + 8 * after * width**2 + 5 * (before + after) * width)
        if after < before:  # columns of each head's map are summed
            cost['backbone'] += backbone.num_heads * before**2
    levels = places * (16 + 4 + 1 + 0.25)
    resized = places * (16 + 4 + 0.25) * width + places * (16 + 4 + 1) * 256
    cost['neck'] = levels * 256 * (width + 9 * 256) + resized
    # Persons are asked for at the last of six stages.
    cost['localizer'] = 100 * (6 * stage() + 256**2 + 2 * 256 + 5 * 256)
    if head.type == 'LinearActionHead':
        cost['action_head'] = 100 * width * 80
        return {part: round(flops) for part, flops in cost.items()}
    context = kept
    if head.get('context') == 'all':
        context += dropped
        cost['backbone'] += 5 * dropped * width  # the final norm
    inner, length = head.channels, context + 100
    cost['action_head'] = context * width * inner
    cost['action_head'] += head.depth * (
        12 * length * inner**2 + 2 * length**2 * inner + 2 * 5 * length * inner)
    cost['action_head'] += 100 * 2048 * (inner + 5 + head.num_classes)
    return {part: round(flops) for part, flops in cost.items()}


def stage():
    """A stage of the localiser, for one of 100 proposals: 256 wide, 49 bins, 64 inside.
    """
    attention = 4 * 256**2 + 2 * 100 * 256
    dynamic = 256 * 2 * 256 * 64 + 2 * 49 * 256 * 64 + 49 * 256 * 256
    ffn, boxes = 2 * 256 * 2048, 3 * 256**2 + 4 * 256
    norms = 5 * (3 * 256 + 49 * 64 + 49 * 256 + 256 + 3 * 256)
    return attention + dynamic + ffn + boxes + norms


@pytest.mark.parametrize('name', COUNTED)
def test_what_is_counted_is_what_the_hand_says(name):
    found = {}
    for part, cost in counted(name).parts.items():
        part = part.partition('.')[0]
        found[part] = found.get(part, 0) + cost.flops
    assert found == by_hand(name)
    assert sum(found.values()) == counted(name).flops


def gflops(name):
    return sum(by_hand(name).values()) / 1e9


@pytest.mark.parametrize('name', RELEASED)
def test_gflops_of_the_released_code(name):
    assert gflops(name) == pytest.approx(RELEASED[name], rel=0.005)


@pytest.mark.parametrize('name', SPLIT)
def test_gflops_of_its_parts(name):
    parts = counted(name).parts
    found = [sum(part.gflops for key, part in parts.items() if key.startswith(start))
             for start in ('backbone.blocks', 'localizer.stages',
                           'action_head.decoder')]
    assert found == pytest.approx(SPLIT[name], abs=0.05)


def test_ranking_costs_next_to_nothing():
    """No pass of its own: 0.05 GFLOPs of the 134.2, in three blocks."""
    extra = 12 * (1568**2 + 1098**2 + 769**2)
    assert extra < 0.0004 * counted('vit_base_224_ava').flops


def test_roi_align_stands_beside_the_total():
    """16 places of a map sum up to a bin: of 6 stages, and of 8 frames."""
    bins = 100 * 49 * 16
    assert counted('vit_base_224_ava').apart == {
        'RoIAlign': 6 * bins * 256 + bins * 8 * 384}


def test_parameters():
    assert round(params('vit_base_ava') / 1e6, 2) == 185.36
    for name in EVAD:
        if 'base' in name and not any(word in name for word in (
                'depth', 'linear', 'ucf24', 'jhmdb', 'two_stage')):
            assert params(name) == params('vit_base_ava'), name
    assert round(params('vit_base_linear_224_ava') / 1e6) == 169  # Table 1a


def test_every_config_is_in_the_table_once():
    rows = table_rows('evad')
    assert sorted([*EVAD, 'two_stage_videomae_base_ava']) == sorted(rows)


@pytest.mark.parametrize('name', EVAD)
def test_the_table_says_what_is_counted(name):
    row = table_rows('evad')[name]
    assert row['here'] == f'{gflops(name):.1f}'
    if row.get('paper', '-') != '-':
        assert float(row['paper']) == round(RELEASED[name], 1)
    if 'keep' in row:
        keeps = {r.keep for r in evad(name).model.backbone.reducers} or {1.0}
        assert {float(row['keep'])} == keeps
    if 'extension' in row:
        assert row['extension'] == '({:g}, {:g})'.format(
            *evad(name).model.action_head.roi_extension)
    if 'M' in row:
        assert row['M'] == f'{params(name) / 1e6:.2f}'


def test_the_metafile_lists_every_config():
    check_index('evad', sorted([*EVAD, 'two_stage_videomae_base_ava']))


@pytest.mark.parametrize('model', metafile('evad')['Models'],
                         ids=lambda model: model['Name'])
def test_the_metafile_says_what_is_counted(model):
    name = model['Name']
    row, data = table_rows('evad')[name], model['Metadata']
    shown = row['mAP']
    metrics = {} if shown == '-' else {'mAP (paper)': float(shown)}
    (result, ) = model.get('Results') or [dict(Dataset=data['Training Data'],
                                               Metrics={})]
    assert (result['Dataset'], result['Metrics']) == (data['Training Data'], metrics)
    if name not in EVAD:  # mmaction2's detector
        return
    cfg = evad(name)
    side = default_input_shape(cfg)[2]
    assert data['FLOPs'] == f'{gflops(name):.2f}G'
    assert data['Parameters'] == f'{params(name) / 1e6:.2f}M'
    assert data['Resolution'] == f'short side {side}'
    assert data['Epochs'] == cfg.train_cfg.max_epochs
    assert data['Batch Size'] == cfg.auto_scale_lr.base_batch_size
    assert cfg.model.action_head.num_classes == CLASSES[name.rpartition('_')[2]]
