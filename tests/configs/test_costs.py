# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Parameters and GFLOPs of configs/stts, and of what its tables say of them."""
import re

import pytest
from config_files import (
    STTS,
    Cost,
    check_entry,
    check_index,
    cost,
    full_count,
    metafile,
    stts,
    table_rows,
)

# numpy about mmaction2's Video Swin, where a trace makes its sizes tensors
pytestmark = pytest.mark.filterwarnings('ignore:__array_wrap__:DeprecationWarning')

# GFLOPs of the released code (SPEC, section 1).
RELEASED = {
    'mvit_dense_k400': 70.80,
    'mvit_t09_s09_k400': 56.39,
    'mvit_k400': 47.21,
    'mvit_t06_s09_k400': 38.46,
    'mvit_t05_s07_k400': 26.95,
    'mvit_t04_s06_k400': 18.46,
    'mvit_t06_k400': 41.29,
    'mvit_t03at4_k400': 37.49,
    'mvit_t08_s07at0_k400': 35.35,
    'mvit_s06at0_k400': 42.13,
    'mvit_s03at4_k400': 38.36,
    'mvit_multistep_4_8_k400': 35.65,
}
# The same of VideoSwin, which is padded in time; kept frames.
RELEASED_PADDED = {
    'swin_base_dense_k400': (281.92, 16),
    'swin_base_t09_k400': (261.51, 14),
    'swin_base_t08_k400': (241.09, 12),
    'swin_base_t06_k400': (220.68, 10),
    'swin_base_t05_k400': (210.47, 9),
    'swin_base_t04_k400': (102.47, 6),
}
SSV2 = {'swin_base_dense_ssv2': 16, 'swin_base_t06_ssv2': 10, 'swin_base_t07_ssv2': 11}


def padded(name):
    cfg = stts(name)
    cfg.model.backbone.window_mode = 'padded'
    return cfg


@pytest.mark.parametrize('name', RELEASED)
def test_gflops_of_the_released_code(name):
    assert cost(stts(name)).gflops == pytest.approx(RELEASED[name], rel=0.005)


@pytest.mark.parametrize('name', RELEASED_PADDED)
def test_gflops_of_the_released_video_swin(name):
    assert cost(padded(name)).gflops == pytest.approx(RELEASED_PADDED[name][0],
                                                      rel=0.005)


@pytest.mark.parametrize('cfg', [
    stts('mvit_dense_k400'), stts('mvit_s03at4_k400'), stts('swin_base_t04_k400'),
    padded('swin_base_t06_k400'),
], ids=['MViT', 'S0.3^4', 'T0.4^0 packed', 'T0.6^0 padded'])
def test_counting_fewer_blocks_gives_what_the_whole_model_does(cfg):
    assert cost(cfg) == Cost.of(full_count(cfg))


@pytest.mark.parametrize('cfg,linear', [
    (padded('swin_base_t06_k400'), 180.65), (stts('swin_base_t04_k400'), 90.64)],
    ids=['T0.6^0 padded', 'T0.4^0'])
def test_linear_layers_of_the_released_video_swin(cfg, linear):
    assert full_count(cfg).operators['linear'] / 1e9 == pytest.approx(linear, rel=0.001)


@pytest.mark.parametrize('name,kept', [
    *((name, kept) for name, (_, kept) in RELEASED_PADDED.items()), *SSV2.items()])
def test_packed_frames_cost_their_share(name, kept):
    """K of 16 frames: K/16 of the dense model and the patch embedding."""
    dense = cost(stts('swin_base_dense_ssv2' if name in SSV2 else
                      'swin_base_dense_k400')).gflops
    embedding = 2 * 4 * 4 * 3 * 128 * 16 * 56 * 56 / 1e9
    assert embedding == pytest.approx(0.62, abs=0.005)
    assert cost(stts(name)).gflops <= kept / 16 * dense + embedding


def test_packed_windows_cost_at_most_what_padded_ones_do():
    assert cost(stts('swin_base_dense_k400')).gflops <= 281.92
    # Table 3 of the paper: 0.96 TFLOPs in three views
    assert cost(padded('swin_base_dense_ssv2')).gflops * 3 == pytest.approx(960, abs=5)


def score_net(width):
    """Parameters of the released score network: a LayerNorm and four linear layers."""
    half, quarter = width // 2, width // 4
    return (2 * width + (width + 1) * width + (width + 1) * half
            + (half + 1) * quarter + quarter + 1)


def expected_params(name):
    """Parameters of the host, and of one score network for each learned selector."""
    swin, classes = name.startswith('swin'), 174 if name.endswith('ssv2') else 400
    backbone = stts(name).model.backbone
    widths = {0: 128} if swin else {0: 96, 4: 384, 8: 384}
    selectors = sum(
        score_net(widths[reducer.before]
                  * (2 if reducer.type == 'TemporalSelection' else 1))
        for reducer in backbone.get('reducers', ())
        if reducer.get('strategy', 'perturbed_topk') in ('perturbed_topk', 'gumbel'))
    if not swin:
        return 36_610_672 + selectors
    # mmaction2's; a longer window has more relative positions, for each head
    tables = 0 if backbone.window_size[0] == 8 else 16 * 13 * 13 * SWIN_HEADS
    return 87_638_984 + tables + selectors + 1025 * classes


SWIN_HEADS = 2 * 4 + 2 * 8 + 18 * 16 + 2 * 32  # summed over blocks


@pytest.mark.parametrize('name', [name for name in STTS if 'mmaction2' not in name])
def test_parameters(name):
    assert cost(stts(name)).params == expected_params(name)


def test_parameters_are_those_of_the_specification():
    assert expected_params('mvit_k400') == 36_912_498
    head = 1025 * 400
    backbones = [expected_params(name) - head
                 for name in ('swin_base_dense_k400', 'swin_base_t06_k400')]
    assert [round(params / 1e6, 3) for params in backbones] == [87.639, 87.747]


def test_siblings_cost_what_they_share():
    """Baselines: the learned model, less its score networks; Gumbel: the same."""
    for name in STTS:
        if name.endswith(('_random_k400', '_uniform_k400', '_gumbel_k400')):
            kind = name.split('_')[-2]
            learned = cost(stts(name.replace(f'_{kind}', '')))
            saved = 0 if kind == 'gumbel' else learned.selecting
            assert cost(stts(name)).flops == learned.flops - saved > 0, name


def test_every_config_is_in_the_table_once():
    assert sorted(table_rows('stts')) == STTS


@pytest.mark.parametrize('name', STTS)
def test_the_table_says_what_is_counted(name):
    row = table_rows('stts')[name]
    assert float(row['here']) == round(cost(stts(name)).gflops, 2)
    if row.get('padded', '-') != '-':
        assert float(row['padded']) == round(cost(padded(name)).gflops, 2)
    released = row.get('released', '-')
    if name in RELEASED:
        assert float(released) == RELEASED[name]
    elif name in RELEASED_PADDED:
        assert float(released) == RELEASED_PADDED[name][0]


def test_the_metafile_lists_every_config():
    check_index('stts', STTS)


@pytest.mark.parametrize('model', metafile('stts')['Models'],
                         ids=lambda model: model['Name'])
def test_the_metafile_says_what_is_counted(model):
    name = model['Name']
    shown = re.fullmatch(r'([\d.]+)(\*?)|-', table_rows('stts')[name]['top-1'])
    source = 'release page' if shown[2] else 'paper'
    metrics = {f'Top 1 Accuracy ({source})': float(shown[1])} if shown[1] else {}
    check_entry(model, stts(name), cost(stts(name)), metrics)
