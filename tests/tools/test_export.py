# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""tools/export.py: files that compute what the model does, and who gets an error."""
import importlib
import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

CONFIG = """
model = dict(
    type='Recognizer3D',
    backbone=dict(
        type='ReducedTimeSformer', num_frames=4, img_size=32, patch_size=8,
        embed_dims=24, num_heads=3, num_transformer_layers=2,
        attention_type='joint_space_time',
        reducers=[dict(type='TemporalSelection', before=0, keep=0.75),
                  dict(type='TokenMerging', before=1)]),
    cls_head=dict(type='TimeSformerHead', num_classes=5, in_channels=24),
    data_preprocessor=dict(type='ActionDataPreprocessor', mean=[1., 2., 3.],
                           std=[4., 5., 6.], format_shape='NCTHW'))
"""

@pytest.fixture
def tool(repo_dir, monkeypatch):
    """The module tools/export.py."""
    monkeypatch.syspath_prepend(str(repo_dir / 'tools'))
    return importlib.import_module('export')


@pytest.fixture
def parts(tool):
    """The module tools/_export.py."""
    return importlib.import_module('_export')


@pytest.fixture
def config(tmp_path):
    """A config file: a small ViT that selects frames and merges tokens."""
    path = tmp_path / 'tiny.py'
    path.write_text(CONFIG)
    return str(path)


def error_of(tool, capsys, *args):
    """The line that a command ends in."""
    with pytest.raises(SystemExit) as end:
        tool.main([str(arg) for arg in args])
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert end.value.code == 2 and line.startswith('error: '), line
    return line


def eager(tool, config, *inputs):
    """What the model of a config computes with the weights of `none`."""
    torch.manual_seed(0)
    model = tool.build_model(tool.load_config(config))
    tool.redraw(model, 0)
    with torch.no_grad():
        return tool.wrap(model, 'model', config)(*inputs)


def test_an_onnx_file_computes_what_the_model_does(tool, config, tmp_path, capsys):
    onnxruntime = pytest.importorskip('onnxruntime', reason='needs the extra export')
    path = tmp_path / 'model.onnx'
    tool.main([config, 'none', '--out', str(path), '--batch', '2'])
    assert 'logits: largest relative difference ' in capsys.readouterr().out
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options)
    clips = torch.randn(2, 3, 4, 32, 32)
    (logits, ) = session.run(['logits'], dict(clips=clips.numpy()))
    (want, ) = eager(tool, config, clips)
    assert want.std() > 0.01
    assert_close(torch.from_numpy(logits), want, rtol=1e-4, atol=1e-5)
    about = {name: json.loads(value) for name, value in
             session.get_modelmeta().custom_metadata_map.items()}
    assert about['config'] == 'tiny.py' and about['num_classes'] == 5
    assert about['mean'] == [1, 2, 3] and about['std'] == [4, 5, 6]
    assert about['shape'] == [2, 3, 4, 32, 32] and about['outputs'] == ['logits']


def test_a_program_takes_any_number_of_clips(tool, config, tmp_path, capsys):
    path = tmp_path / 'model.pt2'
    tool.main([config, 'none', '--out', str(path), '--dynamic-batch'])
    assert 'logits: largest relative difference ' in capsys.readouterr().out
    files = {'metadata.json': ''}
    module = torch.export.load(path, extra_files=files).module()
    for batch in (1, 3):
        clips = torch.randn(batch, 3, 4, 32, 32)
        assert_close(module(clips), eager(tool, config, clips), rtol=1e-4, atol=1e-5)
    about = json.loads(files['metadata.json'])
    assert json.loads(about['shape']) == ['batch', 3, 4, 32, 32]


def test_what_does_not_agree_is_not_kept(tool, config, tmp_path, monkeypatch, capsys):
    def wrong(wrapped, inputs, dynamic_batch):
        class Wrong(nn.Module):
            def forward(self, clips, motion=None):
                return (clips.mean((2, 3, 4)) @ torch.ones(3, 5), )

        return torch.export.export(Wrong(), inputs)

    monkeypatch.setattr(tool, 'trace', wrong)
    line = error_of(tool, capsys, config, 'none', '--out', tmp_path / 'model.pt2')
    assert 'does not agree with the model within 0.0001 in logits' in line
    assert [path.name for path in tmp_path.iterdir()] == ['tiny.py']
    tool.main([config, 'none', '--out', str(tmp_path / 'model.pt2'), '--no-check'])
    assert (tmp_path / 'model.pt2').is_file()


def test_differences(parts):
    tokens, places = torch.randn(1, 3, 2), torch.tensor([[4, 0, 2]])
    order, names = torch.tensor([2, 0, 1]), ['tokens', 'places', 'map']
    shuffled = [tokens[:, order], places[:, order]]
    value = torch.tensor([4.0, -1.0])
    got = parts.compare(names, [*shuffled, value], [tokens, places, value + 0.5])
    assert [part.relative for part in got] == pytest.approx([0, 0, 0.5 / 4.5])
    other = torch.tensor([[4, 0, 1]])
    got = parts.compare(names, [tokens, other, value * torch.nan],
                        [tokens, places, value])
    assert got[1].relative == pytest.approx(1 / 3)
    assert got[2].relative == torch.inf


def test_operators_in_onnx():
    onnxruntime = pytest.importorskip('onnxruntime', reason='needs the extra export')
    pytest.importorskip('onnxscript', reason='needs the extra export')
    from mmaction_tokenreduce.onnx_operators import TRANSLATIONS

    class All(nn.Module):
        def forward(self, near, first, rows, shares):
            picked = torch.ops.mmaction_tokenreduce.greedy_pick(near, first, 5)
            order = near[:, 0].argsort(dim=1, descending=True, stable=True)
            sums = F.embedding_bag(rows, near[0, :, 1:4], mode='sum',
                                   per_sample_weights=shares)
            return picked, order, sums

    # Whole numbers, so that many are equal.
    near = torch.randint(0, 4, (3, 9, 9)).float()
    near.diagonal(dim1=1, dim2=2).fill_(9.0)
    rows = torch.randint(0, 9, (4, 6), dtype=torch.int32)
    inputs = near, torch.tensor([4, 0, 8]), rows, torch.rand(4, 6)
    model = All().eval()
    program = torch.onnx.export(
        model, inputs, dynamo=True, verbose=False, optimize=False, opset_version=18,
        custom_translation_table=TRANSLATIONS)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(),
                                           options)
    got = session.run(None, {part.name: value.numpy() for part, value in zip(
        session.get_inputs(), inputs, strict=True)})
    for one, want in zip(got, model(*inputs), strict=True):
        assert_close(torch.from_numpy(one), want)


@pytest.mark.parametrize('options,message', [
    (['--out', 'model.pth'], '--out must name a .onnx or .pt2 file, got model.pth'),
    (['--out', 'm.pt2', '--batch', '0'], '--batch must be at least 1, got 0'),
    (['--out', 'm.pt2', '--batch', '2', '--dynamic-batch'], '--batch 2 fixes it'),
    (['--out', 'm.pt2', '--opset', '18'], '--opset is for .onnx files'),
    (['--out', 'm.onnx', '--opset', '11'], '--opset must be at least 18, got 11'),
    (['--out', 'm.pt2'], 'neither'),
    (['--out', 'm.pt2', '--part', 'encoder', '--shape', '3', '4', '32', '32'],
     '--part encoder is for EVAD'),
    (['--out', 'm.pt2', '--shape', '3', '4', '32', '0'], '--shape takes four sizes'),
])
def test_mistakes(tool, config, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    pytest.importorskip('onnxscript', reason='needs the extra export')
    if message == 'neither':  # the small ViT names its own size; without frames
        options = [*options, '--cfg-options', 'model.backbone.reducers.0.keep=0.1']
        message = 'TemporalSelection: keep=0.1 leaves none of 4 token frames'
    assert message in error_of(tool, capsys, config, 'none', *options)
    assert [path.name for path in tmp_path.iterdir()] == ['tiny.py']


def test_packages_that_are_missing(tool, parts, config, monkeypatch, capsys):
    monkeypatch.setattr(parts, 'find_spec', lambda name: None)
    line = error_of(tool, capsys, config, 'none', '--out', 'm.onnx')
    assert 'writing ONNX needs onnx, onnxscript: pip install onnx onnxscript' in line


def test_what_draws_anew_cannot_be_compared(tool, config, tmp_path, capsys):
    line = error_of(tool, capsys, config, 'none', '--out', tmp_path / 'm.pt2',
                    '--cfg-options', 'model.backbone.reducers.0.strategy=random')
    assert "backbone.reducers.0.choose: strategy='random' draws anew" in line
