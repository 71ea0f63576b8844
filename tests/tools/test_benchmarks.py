# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""The benchmarks run, and their figures hang together."""
import importlib
import json
import runpy
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest
from torch.testing import assert_close

from mmaction_tokenreduce.datasets.moving_square import MovingSquare, encode


@pytest.fixture
def tool(repo_dir, monkeypatch):
    monkeypatch.syspath_prepend(str(repo_dir / 'tools'))

    def load(name):
        return SimpleNamespace(**runpy.run_path(str(repo_dir / 'tools' / name)))

    return load


@pytest.fixture
def benchmark(tool):
    """tools/benchmark.py: what it wrote for some options."""
    main = tool('benchmark.py').main

    def run(tmp_path, *options):
        main([*options, '--json', str(tmp_path / 'result.json')])
        return json.loads((tmp_path / 'result.json').read_text())

    return run


@pytest.fixture
def demo(repo_dir):
    return lambda name: str(repo_dir / f'configs/demo/{name}.py')


def test_models_in_turns(benchmark, demo, tmp_path, capsys):
    picture = tmp_path / 'time.png'
    result = benchmark(tmp_path, demo('mvit_dense'), demo('mvit_stts'), '--turns', '3',
                       '--batch', '1', '2', '--floor', '--no-memory', '--accuracy',
                       'mvit_stts=0.9', '--plot', str(picture))
    assert [(row['model'], row['batch']) for row in result['rows']] == [
        (name, batch) for batch in (1, 2) for name in ('mvit_dense', 'mvit_stts')]
    for dense, stts in (result['rows'][:2], result['rows'][2:]):
        assert dense['times_as_fast'] == 1 and dense['selector_share'] == 0
        assert 0 < stts['selector_share'] < 1 and stts['ms'] > 0
        assert stts['gflops_promise'] == pytest.approx(dense['gflops'] / stts['gflops'])
        assert stts['gflops_promise'] == pytest.approx(2.04, abs=0.01)
        assert stts['promise_reached'] == pytest.approx(
            stts['times_as_fast'] / stts['gflops_promise'])
        assert stts['floor_reached'] == pytest.approx(
            stts['floor_times_as_fast'] / stts['gflops_promise'])
        for row in dense, stts:
            assert row['fused_attention'] == 4  # one of each block
            assert row['ms_quartiles'][0] <= row['ms'] <= row['ms_quartiles'][1]
            assert row['clips_per_s'] == pytest.approx(1e3 * row['batch'] / row['ms'])
            assert 0 < row['floor_ms'] < 1.5 * row['ms'] and row['part_shares'] == {}
    table = capsys.readouterr().out
    assert 'times as fast' in table and 'localiser' not in table
    assert 'inference, float32, medians of 3 turns' in table
    assert result['machine']['processor'] in table
    assert result['accuracy'] == dict(metric='accuracy', values=dict(mvit_stts=0.9))
    image = plt.imread(picture)
    assert image.shape[1] > 1.9 * image.shape[0]  # two panels
    assert image[..., :3].std() > 0.05


def test_parts_of_a_detector(benchmark, demo, tmp_path, capsys):
    row, = benchmark(tmp_path, demo('evad_moving_actors'), '--turns', '1',
                     '--no-memory')['rows']
    assert set(row['part_shares']) == {'encoder', 'localiser', 'decoder'}
    assert all(share > 0.02 for share in row['part_shares'].values())
    assert 0.9 < sum(row['part_shares'].values()) < 1.1
    assert 0 < row['selector_share'] < row['part_shares']['encoder']
    table = capsys.readouterr().out
    assert 'localiser' in table and 'floor' not in table and 'MiB' not in table


def test_training_of_detectors(benchmark, demo, tmp_path, capsys):
    row, = benchmark(tmp_path, demo('evad_moving_actors'), '--train', '--turns', '1',
                     '--actors', '2', '--shape', '3', '8', '64', '64')['rows']
    assert row['ms'] > 0 and row['times_as_fast'] == 1
    assert row['mb'] > 1 and row['share_of_memory'] == 1
    table = capsys.readouterr().out
    assert 'training step, 1x3x8x64x64, float32' in table and 'share of memory' in table


@pytest.mark.parametrize('name', ['mvit_stts', 'dvt_motion'])
def test_training_of_classifiers(benchmark, demo, tmp_path, name):
    row, = benchmark(tmp_path, demo(name), '--train', '--amp', '--turns', '1',
                     '--floor', '--no-memory')['rows']
    assert row['precision'] == 'bfloat16' and row['floor_ms'] > 0
    assert row['products']['convolution_backward'] > 0
    assert row['selector_share'] is None and row['part_shares'] == {}


def test_loading_apart(benchmark, demo, tmp_path, capsys):
    video = encode(tmp_path / 'video.mp4', MovingSquare((1, 0), frames=40, size=64)
                   .frames)
    (tmp_path / 'list.txt').write_text(f'{video} 0\n')
    short = ['--turns', '1', '--no-memory']
    results = [benchmark(tmp_path, demo('vit_dense'), *short, '--data', video, '--amp'),
               benchmark(tmp_path, demo('vit_dense'), *short, '--data', '--cfg-options',
                         f'test_dataloader.dataset.ann_file={tmp_path}/list.txt',
                         'test_dataloader.dataset.data_prefix.video=')]
    assert [result['rows'][0]['precision'] for result in results] == [
        'bfloat16', 'float32']
    for row in (result['data']['vit_dense'] for result in results):
        assert row['views'] == 1
        assert row['samples_per_s'] == pytest.approx(1e3 / row['ms'])
    assert 'loading a sample, one process' in capsys.readouterr().out


def test_accuracies_of_the_metafile(repo_dir, monkeypatch):
    monkeypatch.syspath_prepend(str(repo_dir / 'tools'))
    report = importlib.import_module('_benchmark_report')
    paths = {name: str(repo_dir / f'configs/{name}.py') for name in (
        'stts/mvit_dense_k400', 'stts/mvit_t06_s09_k400',
        'stts/mvit_dense_mmaction2_k400', 'evad/vit_base_224_ava', 'demo/mvit_dense')}
    assert report.known_accuracies(paths, None) == dict(
        metric='Top 1 Accuracy (paper)',
        values={'stts/mvit_dense_k400': 78.4, 'stts/mvit_t06_s09_k400': 77.5})


@pytest.mark.parametrize('options,message', [
    (['nothing.py'], 'nothing.py not found'),
    (['{dense}', '{dense}'], 'two configs of the same name'),
    (['{dense}', '--shape', '3', '0', '64', '64'], '--shape takes sizes of at least 1'),
    (['{dense}', '--turns', '0'], '--turns takes numbers of at least 1, got 0'),
    (['{dense}', '--batch', '2', '0'], '--batch takes numbers of at least 1'),
    (['{dense}', '--batch', '2', '2'], '--batch takes each size once'),
    (['{evad}', '--actors', '0'], '--actors takes numbers of at least 1'),
    (['{dense}', '--plot', 'time.doc'], 'time.doc: the file must end in one of'),
    (['{dense}', '--accuracy', 'x=1'], 'NAME must be one of mvit_dense'),
    (['{dense}', '--accuracy', 'mvit_dense=x'], 'VALUE must be a number'),
    (['{dense}', '--data', 'gone.mp4'], 'gone.mp4 cannot be read: no such file'),
    (['{dense}', '--data', '--cfg-options',
      'test_dataloader.dataset.ann_file=gone.txt'], 'gone.txt not found'),
    (['{dense}', '--train', '--amp', '--cfg-options', 'optim_wrapper.type=MyWrapper'],
     '--amp does not go with optim_wrapper.type=MyWrapper'),
])
def test_mistakes(tool, demo, capsys, options, message):
    paths = dict(dense=demo('mvit_dense'), evad=demo('evad_moving_actors'))
    with pytest.raises(SystemExit) as stop:
        tool('benchmark.py').main([word.format(**paths) for word in options])
    assert stop.value.code == 2 and message in capsys.readouterr().err


def test_topk_forms_agree(tool):
    module = tool('benchmark_topk.py')
    case = module.make_case(SimpleNamespace(batch=2, length=20, k=8, samples=50))
    grads = [module.run(form, *case) for form in module.FORMS]
    assert_close(grads[0], grads[1], rtol=1e-3, atol=1e-4)
    assert module.peak_resident_kib() > 1000


def test_linear_layers(tool, capsys, monkeypatch):
    module = tool('benchmark_linear.py')
    monkeypatch.setitem(module.main.__globals__, 'SIZES', ((40, 12, 7), (40, 7, 12)))
    module.main(['--turns', '1', '--json'])
    for row in json.loads(capsys.readouterr().out):
        assert all(row[form] > 0 for form in module.FORMS)


def test_forms_of_roi_align_agree(tool):
    module = tool('benchmark_roi_align.py')
    for part in module.FORMS:
        result = module.measure(part, 64, 1, count=8)  # compares them
        assert set(result) == set(module.FORMS[part])
        assert all(row['both'] > 0 for row in result.values())
