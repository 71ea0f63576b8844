# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""tools/get_flops.py on mmaction2's own MViT at a small size."""
import importlib
import json
import re

import pytest
from mmaction.models.backbones import MViT

CONFIG = """
model = dict(
    type='Recognizer3D',
    backbone=dict(
        type='MViT', rel_pos_embed=False, rel_pos_zero_init=True,
        dim_mul_in_attention=False, residual_pooling=False, use_abs_pos_embed=True,
        arch=dict(embed_dims=8, num_layers=2, num_heads=1, downscale_indices=[1]),
        temporal_size=8, spatial_size=64),
    cls_head=dict(type='MViTHead', num_classes=5, in_channels=16),
    data_preprocessor=dict(type='ActionDataPreprocessor', mean=[1., 2., 3.],
                           std=[4., 5., 6.], format_shape='NCTHW'))
test_pipeline = [
    dict(type='SampleFrames', clip_len=8, frame_interval=1),
    dict(type='CenterCrop', crop_size=(96, 64))]
"""
PARTS = ['backbone', 'backbone.patch_embed', 'backbone.blocks', 'backbone.norm1',
         'cls_head.fc_cls']


@pytest.fixture
def tool(repo_dir, monkeypatch):
    """The module tools/get_flops.py."""
    monkeypatch.syspath_prepend(str(repo_dir / 'tools'))
    return importlib.import_module('get_flops')


@pytest.fixture
def config(tmp_path):
    """Writes a config: the small MViT with a few lines more."""

    def write(more='', text=CONFIG):
        path = tmp_path / 'tiny.py'
        path.write_text(text + more)
        return str(path)

    return write


def test_json_is_one_object_on_stdout(tool, config, capsys):
    tool.main([config('print("reading the config")\n'), '--json'])
    result = json.loads(capsys.readouterr().out)
    assert set(result) == {
        'shape', 'params', 'gflops', 'parts', 'operators', 'not_counted'}
    assert result['shape'] == [3, 8, 64, 96]
    assert list(result['parts']) == PARTS
    # a 3x7x7 kernel over 3 channels, at 4 x 16 x 24 places
    patch_embed = dict(params=8 * 3 * 147 + 8, gflops=8 * 3 * 147 * 4 * 16 * 24 / 1e9)
    assert result['parts']['backbone.patch_embed'] == pytest.approx(patch_embed)
    assert result['parts']['cls_head.fc_cls'] == dict(params=85, gflops=80 / 1e9)
    for key in ('params', 'gflops'):
        total = sum(part[key] for part in result['parts'].values())
        assert total == pytest.approx(result[key])
    assert isinstance(result['params'], int)
    assert sum(result['operators'].values()) == pytest.approx(result['gflops'])
    assert result['not_counted'] == {  # the positions are for another size
        'aten::max_pool3d': 1, 'aten::softmax': 2, 'aten::upsample_trilinear3d': 1}


def test_shape_and_cfg_options(tool, config, capsys):
    arguments = [config(), '--json', '--cfg-options', 'model.cls_head.num_classes=7']
    tool.main([*arguments, '--shape', '3', '4', '64', '64'])
    small = json.loads(capsys.readouterr().out)
    assert small['shape'] == [3, 4, 64, 64]
    assert small['parts']['cls_head.fc_cls']['params'] == 7 * 17
    tool.main([*arguments, '--shape', '3', '8', '64', '64'])
    large = json.loads(capsys.readouterr().out)
    assert large['params'] == small['params']
    patches = [result['parts']['backbone.patch_embed']['gflops']
               for result in (small, large)]
    assert patches[1] == pytest.approx(2 * patches[0])


def test_no_arithmetic_but_where_a_model_looks_at_values(
        tool, config, capsys, monkeypatch):
    forward, devices, looks = MViT.forward, [], False

    def watched(self, x):
        devices.append(x.device.type)
        if looks:
            float(x.sum())
        return forward(self, x)

    monkeypatch.setattr(MViT, 'forward', watched)
    tool.main([config(), '--json'])
    plain = capsys.readouterr().out
    assert set(devices) == {'meta'}
    devices, looks = [], True
    tool.main([config(), '--json'])
    assert devices[-1] == 'cpu' and capsys.readouterr().out == plain


def test_depth(tool, config, capsys):
    tool.main([config(), '--json', '--depth', '3'])
    parts = json.loads(capsys.readouterr().out)['parts']
    assert {'backbone.patch_embed.projection', 'backbone.blocks.0',
            'backbone.blocks.1'} <= set(parts)


def test_table_names_parts_total_and_what_was_not_counted(tool, config, capsys):
    tool.main([config()])
    out = capsys.readouterr().out
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}
    assert set(PARTS) | {'total', 'matmul', 'aten::softmax'} <= set(rows)
    assert rows['total'][-1] == '100.0%'
    assert 'one view of 3x8x64x96 (C x T x H x W), one multiply-add = 1' in out


@pytest.mark.parametrize(('more', 'arguments', 'message'), [
    ("test_pipeline = None\nmodel['backbone'].pop('spatial_size')\n", [],
     'tiny.py: no frame size in test_dataloader, .* give --shape C T H W'),
    ('', ['--shape', '3', '0', '64', '64'],
     'four sizes C T H W of at least 1, got 3 0 64 64'),
    ('', ['--depth', '0'], '--depth must be at least 1, got 0'),
    ('', ['--shape', '4', '8', '64', '64'],
     r'the model of \S+ cannot take one view of 4x8x64x64 .*: RuntimeError: '),
    ("model['type'] = 'Recognizer2D'\n", [],
     'model.type=Recognizer2D: only Recognizer3D, MMRecognizer3D, EVAD and their '
     'subclasses can be counted'),
    ("model['backbone']['type'] = 'MVit'\n", [], 'MVit is not in the .* registry'),
    ("model['backbone']['layers'] = 3\n", [], "unexpected keyword argument 'layers'"),
    ('model = None\n', [], 'tiny.py has no model'),
    ('model = dict(\n', [], 'tiny.py: SyntaxError'),
])
def test_mistakes_are_one_line(tool, config, capsys, more, arguments, message):
    with pytest.raises(SystemExit) as caught:
        tool.main([config(more), *arguments])
    captured = capsys.readouterr()
    assert caught.value.code == 2 and captured.out == ''
    line = captured.err.splitlines()[-1]
    assert line.startswith('error: ')
    assert re.search(message, line), line


def test_missing_config(tool, capsys):
    with pytest.raises(SystemExit):
        tool.main(['configs/gone.py'])
    assert 'error: config file configs/gone.py not found' in capsys.readouterr().err
