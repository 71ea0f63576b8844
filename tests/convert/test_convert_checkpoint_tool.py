# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""tools/convert_checkpoint.py: a released file in, a loadable checkpoint out."""
import importlib
import json

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub

# source -> the names of its files, without "backbone."; its config
SOURCES = {
    'slowfast_mvit': ('slowfast_mvit_b16x4.json', 'configs/stts/mvit_dense_k400.py'),
    'stts_mvit': ('stts_mvit_b16_t06_s09.json', 'configs/stts/mvit_t06_s09_k400.py'),
    'video_swin': ('stts_swin_b_t06.json', 'configs/stts/swin_base_dense_k400.py'),
    'stts_swin': ('stts_swin_b_t06.json',
                  'configs/stts/swin_base_t06_padded_k400.py'),
    'mmaction2': ('stts_swin_b_t06.json', 'configs/stts/swin_base_dense_k400.py'),
}
TINY = """
model = dict(
    type='Recognizer3D',
    backbone=dict(
        type='ReducedMViT', separable_pos_embed=True, pool_query='downscale',
        rel_pos_embed=False, residual_pooling=False, dim_mul_in_attention=False,
        arch=dict({arch}),
        temporal_size={temporal_size}, spatial_size={spatial_size},
        adaptive_kv_stride={adaptive_kv_stride}, reducers={reducers}),
    cls_head=dict(type='MViTHead', num_classes={num_classes}, in_channels=64))
"""


@pytest.fixture
def tool(repo_dir, monkeypatch):
    """The module tools/convert_checkpoint.py."""
    monkeypatch.syspath_prepend(str(repo_dir / 'tools'))
    return importlib.import_module('convert_checkpoint')


@pytest.fixture
def case(shared_dir, tmp_path):
    """A tiny released model with both selectors, as a file, and its config."""
    cases = torch.load(shared_dir / 'parity' / 'stts_mvit.pt', weights_only=True)
    case = next(case for case in cases.values() if case['cfg']['temporal_before']
                and case['cfg']['spatial_before'])
    cfg = case['cfg']
    reducers = [
        dict(type=kind, before=before, keep=keep)
        for kind, what in (('TemporalSelection', 'temporal'),
                           ('SpatialSelection', 'spatial'))
        for before, keep in zip(cfg[f'{what}_before'], cfg[f'{what}_ratio'],
                                strict=True)
    ]
    arch = ', '.join(f'{key}={cfg[key]}' for key in (
        'embed_dims', 'num_layers', 'num_heads', 'downscale_indices'))
    text = TINY.format(arch=arch, reducers=reducers, **{
        key: cfg[key] for key in ('temporal_size', 'spatial_size', 'num_classes',
                                  'adaptive_kv_stride')})
    (tmp_path / 'tiny.py').write_text(text)
    torch.save(dict(model_state=case['state_dict'], epoch=20, cfg='TRAIN: {}\n',
                    optimizer_state=dict(state={}, param_groups=[dict(lr=1e-4)])),
               tmp_path / 'released.pyth')
    return case


def run_tiny(tool, folder, *options, dst='ours.pth'):
    tool.main([str(folder / 'released.pyth'), str(folder / dst), '--source',
               'stts_mvit', '--config', str(folder / 'tiny.py'), *options])


def test_round_trip(tool, case, tmp_path, capsys):
    run_tiny(tool, tmp_path, '--verbose')
    loaded = torch.load(tmp_path / 'ours.pth', weights_only=True)
    assert loaded['meta'] == dict(source='stts_mvit', config=str(tmp_path / 'tiny.py'))
    released = case['state_dict']
    assert len(loaded['state_dict']) == len(released)
    for ours, theirs in (('backbone.norm2.bias', 'norm.bias'),
                         ('cls_head.fc_cls.weight', 'head.projection.weight'),
                         ('backbone.patch_embed.projection.weight',
                          'patch_embed.proj.weight')):
        torch.testing.assert_close(loaded['state_dict'][ours], released[theirs])
    out = capsys.readouterr().out
    assert 'head.projection.weight -> cls_head.fc_cls.weight 5x64\n' in out
    assert len([line for line in out.splitlines() if ' -> backbone.' in line]) == (
        len(released) - 2)
    total = sum(tensor.numel() for tensor in released.values())
    row = next(line for line in out.splitlines() if line.startswith('total'))
    assert row.split() == ['total', str(len(released)), 'tensors',
                           f'{total / 1e6:.6f}', 'M']
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        'ours.pth', 'released.pyth', 'tiny.py']


def test_without_verbose_names_are_not_listed(tool, case, tmp_path, capsys):
    run_tiny(tool, tmp_path)
    out = capsys.readouterr().out
    assert 'fc_cls.weight' not in out and 'backbone.reducers' in out


def released_names(keys, source):
    """Names and shapes as the source's files hold them, and the key they are under."""
    if 'mvit' in source:
        return keys, 'model_state'
    if source != 'stts_swin':
        keys = {name: shape for name, shape in keys.items()
                if not name.startswith('time_score_predictor')}
    if source == 'mmaction2':
        keys = {name.replace('norm.', 'norm3.') if name.startswith('norm.') else name:
                shape for name, shape in keys.items()}
    head = {'cls_head.fc_cls.weight': (400, 1024), 'cls_head.fc_cls.bias': (400, )}
    return {f'backbone.{name}': shape for name, shape in keys.items()} | head, (
        'state_dict')


@pytest.mark.parametrize('source', SOURCES)
def test_full_size_with_the_config_of_the_source(tool, shared_dir, tmp_path, source):
    file, config = SOURCES[source]
    keys = json.loads((shared_dir / 'official_keys' / file).read_text())['keys']
    names, held_under = released_names(keys, source)
    # one stored number per tensor keeps the files small
    state_dict = {name: torch.full((), i / 7).expand(shape)
                  for i, (name, shape) in enumerate(names.items())}
    torch.save({held_under: state_dict}, tmp_path / 'released.pyth')
    tool.main([str(tmp_path / 'released.pyth'), str(tmp_path / 'ours.pth'), '--source',
               source])
    loaded = torch.load(tmp_path / 'ours.pth', weights_only=True)
    assert loaded['meta'] == dict(source=source, config=config)
    expected = state_dict.get('head.projection.weight',
                              state_dict.get('cls_head.fc_cls.weight'))
    torch.testing.assert_close(loaded['state_dict']['cls_head.fc_cls.weight'], expected)
    assert len(loaded['state_dict']) == len(state_dict)


def test_only_the_weights_of_an_mmaction2_checkpoint_are_kept(tool, tmp_path, capsys):
    """As mmengine writes it, around mmaction2's own MViT."""
    text = """
model = dict(
    type='Recognizer3D',
    backbone=dict(
        type='{host}', temporal_size=4, spatial_size=32,
        arch=dict(embed_dims=8, num_layers=2, num_heads=1, downscale_indices=[1])),
    cls_head=dict(type='MViTHead', num_classes=3, in_channels=16))
"""
    (tmp_path / 'ours.py').write_text(text.format(host='ReducedMViT'))
    (tmp_path / 'theirs.py').write_text(text.format(host='MViT'))
    theirs = tool.build_model(tool.load_config(str(tmp_path / 'theirs.py')))
    hub = MessageHub('written by another test')
    hub.update_scalar('train/loss', np.float64(0.5))
    torch.save(dict(state_dict=theirs.state_dict(), message_hub=hub.state_dict(),
                    optimizer=dict(state={}), meta=dict(epoch=2)),
               tmp_path / 'epoch_2.pth')
    tool.main([str(tmp_path / 'epoch_2.pth'), str(tmp_path / 'new.pth'), '--source',
               'mmaction2', '--config', str(tmp_path / 'ours.py')])
    loaded = torch.load(tmp_path / 'new.pth', weights_only=True)
    assert set(loaded) == {'state_dict', 'meta'}
    torch.testing.assert_close(loaded['state_dict'], dict(theirs.state_dict()))
    total = f'{sum(v.numel() for v in theirs.state_dict().values()) / 1e6:.6f} M'
    assert total in capsys.readouterr().out


def test_another_number_of_classes_is_named_and_nothing_written(
        tool, case, tmp_path, capsys):
    text = (tmp_path / 'tiny.py').read_text()
    (tmp_path / 'tiny.py').write_text(text.replace('num_classes=5', 'num_classes=6'))
    with pytest.raises(SystemExit):
        run_tiny(tool, tmp_path)
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith('error: stts_mvit: the checkpoint does not fit the model: ')
    assert 'head.projection.weight 5x64, but cls_head.fc_cls.weight is 6x64' in error
    assert not (tmp_path / 'ours.pth').exists()


def test_mistakes_are_one_line(tool, tmp_path, capsys):
    (tmp_path / 'page.pyth').write_text('<html>')
    (tmp_path / 'folder').mkdir()
    torch.save(dict(a=torch.zeros(1)), tmp_path / 'a.pyth')
    torch.save(dict(a=torch.zeros(1), cfg=pytest.Config), tmp_path / 'class.pyth')
    for src, dst, options, message in (
            ('page.pyth', 'x.pth', [], 'page.pyth is not a checkpoint'),
            ('class.pyth', 'x.pth', [], 'class.pyth is refused: it holds a pickled '),
            ('gone.pyth', 'x.pth', [], 'no checkpoint file'),
            ('folder', 'x.pth', [], 'folder is a directory: name the checkpoint file'),
            ('a.pyth', 'folder', [], 'folder is a directory: name a file'),
            ('a.pyth', 'a.pyth', [], 'a.pyth is SRC itself'),
            ('a.pyth', 'x.pth', ['--config', 'gone.py'], 'gone.py not found'),
    ):
        with pytest.raises(SystemExit) as caught:
            tool.main([str(tmp_path / src), str(tmp_path / dst), '--source',
                       'slowfast_mvit', *options])
        error = capsys.readouterr().err.splitlines()[-1]
        assert caught.value.code == 2
        assert error.startswith('error: ') and message in error
    assert not (tmp_path / 'x.pth').exists()
