# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""tools/visualize_tokens.py on a tiny model and a tiny video."""
import importlib
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_run import NUM_CLASSES, forget_runs, write_clip, write_config

from mmaction_tokenreduce.visualization import (
    AttentionRollout,
    MergeTrace,
    PruningTrace,
    SelectionTrace,
)

CONFIG = '''
_base_ = {base!r}
model = dict(backbone=dict(
    type='ReducedMViT', rel_pos_embed=False, reducers=[
        dict(type='TemporalSelection', before=0, keep=0.5, strategy={strategy!r}),
        dict(type='SpatialSelection', before=1, keep=0.6, strategy={spatial!r})]))
{more}
'''

PLAIN = '''
_base_ = {base!r}
model = dict(
    backbone=dict(
        _delete_=True, type='ReducedTimeSformer', num_frames=8, img_size=32,
        patch_size=8, embed_dims=12, num_heads=3, num_transformer_layers=3,
        reducers={reducers}),
    cls_head=dict(_delete_=True, type='TimeSformerHead', num_classes=3, in_channels=12,
                  average_clips='prob'))
'''
MERGES = [dict(type='TokenMerging', before=1),
          dict(type='TokenMerging', before=2, scope='clip')]


@pytest.fixture
def tool(repo_dir, monkeypatch, tmp_path):
    """The module tools/visualize_tokens.py, in an empty folder with a video in it."""
    monkeypatch.syspath_prepend(str(repo_dir / 'tools'))
    monkeypatch.chdir(tmp_path)
    write_clip(Path('clip 1.mp4'), 1, frames=40)
    yield importlib.import_module('visualize_tokens')
    forget_runs()


def config(strategy='perturbed_topk', spatial='perturbed_topk', more=''):
    """Writes the config of a model with 4 token frames of 8x8 places."""
    base = write_config(Path('base.py').absolute(), Path('.'))
    Path('tiny.py').write_text(CONFIG.format(base=str(base), strategy=strategy,
                                             spatial=spatial, more=more))
    return 'tiny.py'


def plain(reducers=()):
    """Writes the config of a TimeSformer with 8 token frames of 4x4 places."""
    base = write_config(Path('base.py').absolute(), Path('.'))
    Path('tiny.py').write_text(PLAIN.format(base=str(base), reducers=list(reducers)))
    return 'tiny.py'


def saved_model(tool, path, config_file=None):
    """A model of the config with weights that make its choices differ."""
    model = tool.build_model(tool.load_config(config_file or config()))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)
    return model.eval()


def view_of(tool, number=0, path='tiny.py', changes=None):
    clips = tool.read_clips(tool.load_config(path, changes), path, 'clip 1.mp4', False)
    assert number < len(clips)
    return clips[number].imgs


class Drawn:
    """Takes the place of plot_selection and keeps what it is given."""

    def __init__(self, monkeypatch, tool):
        monkeypatch.setattr(tool.choose_pictures.__module__ + '.plot_selection', self)

    def __call__(self, rows, path, heading=''):
        (self.row, ) = rows
        self.path, self.heading = path, heading


def test_both_pictures_and_words(tool, capsys):
    tool.main([config('uniform', 'random'), 'none', 'clip 1.mp4'])
    out = capsys.readouterr().out.splitlines()
    # T = 4 frames, of which 0 and 3; 6x6 of 8x8 places
    assert out[-4:] == [
        'Untrained weights',
        'kept: 2 of 4 frames, 56% of their area (28% of the clip); token frames #0, #3',
        'wrote work_dirs/tokens/tiny_clip 1.png',
        'wrote work_dirs/tokens/tiny_clip 1.gif']
    with Image.open('work_dirs/tokens/tiny_clip 1.gif') as moving:
        assert moving.n_frames == 8
    with Image.open('work_dirs/tokens/tiny_clip 1.png') as still:
        assert still.width > 700


def test_what_is_drawn_is_what_the_model_keeps_of_its_view(tool, monkeypatch, capsys):
    model = saved_model(tool, 'a.pth')
    view = view_of(tool)
    with torch.inference_mode(), SelectionTrace(model) as trace:
        scores = model(((view - 114.75) / 57.375)[None, None], stage='head')[0]
    best, expected = int(scores.argmax()), trace.kept(0)
    Path('names.txt').write_text('run\njump far\nswim\n')
    drawn = Drawn(monkeypatch, tool)
    tool.main([config(), 'a.pth', 'clip 1.mp4', '--out', 'new/kept.png', '--classes',
               'names.txt', '--device', 'cpu'])
    assert drawn.path == Path('new/kept.png')
    np.testing.assert_array_equal(
        drawn.row.images, view.permute(1, 2, 3, 0)[::2].numpy())  # frames 0, 2, 4, 6
    assert drawn.row.kept.frames == expected.frames
    np.testing.assert_allclose(drawn.row.kept.cells, expected.cells)
    np.testing.assert_allclose(drawn.row.kept.scores, expected.scores, atol=1e-4)
    name = ('run', 'jump far', 'swim')[best]
    guess = f'Predicted class {best} ({name}), score {scores.softmax(0)[best]:.2f}'
    assert drawn.row.title == f'{guess}; keeps {expected.summary()}'
    assert drawn.heading == 'clip 1.mp4, tiny'
    out = capsys.readouterr().out
    assert guess in out
    shown = re.findall(r'scores of the token frames: (.*)', out)[0]
    assert shown == ', '.join(f'{score:.2f}' for score in expected.scores[0])


def test_class_names_of_the_config(tool, monkeypatch, capsys):
    saved_model(tool, 'a.pth')
    path = config(more="test_dataloader = dict(dataset=dict(metainfo=dict("
                  "classes=['a', 'b', 'c'])))")
    Drawn(monkeypatch, tool)
    tool.main([path, 'a.pth', 'clip 1.mp4', '--out', 'kept.png'])
    assert re.search(r'Predicted class (0 \(a\)|1 \(b\)|2 \(c\)),',
                     capsys.readouterr().out)


def test_one_picture_of_another_view(tool, monkeypatch):
    # the first 8 frames, every second of the later ones
    clips = 'test_dataloader.dataset.pipeline.1.num_clips=2'
    drawn = Drawn(monkeypatch, tool)
    tool.main([config(), 'none', 'clip 1.mp4', '--view', '1', '--out', 'kept.png',
               '--cfg-options', clips])
    views = [view_of(tool, number, changes={clips.split('=')[0]: 2})
             for number in range(2)]
    assert not torch.equal(*views)
    np.testing.assert_array_equal(drawn.row.images,
                                  views[1].permute(1, 2, 3, 0)[::2].numpy())
    tool.main([config(), 'none', 'clip 1.mp4', '--view', '1', '--cfg-options', clips,
               '--seed', '3'])
    assert drawn.path == Path('work_dirs/tokens/tiny_clip 1_view1.png')
    assert Path('work_dirs/tokens/tiny_clip 1_view1.gif').is_file()
    tool.main([config(), 'none', 'clip 1.mp4', '--out', 'moving.gif'])
    assert Path('moving.gif').is_file() and not Path('kept.png').exists()


def test_seed_decides_random_choices(tool, monkeypatch):
    kept = []
    drawn = Drawn(monkeypatch, tool)
    for seed in ('1', '1', '2', '3', '4'):
        tool.main([config('random', 'random'), 'none', 'clip 1.mp4', '--out', 'a.png',
                   '--seed', seed])
        kept.append((drawn.row.kept.frames, drawn.row.kept.boxes))
    assert kept[0] == kept[1] and any(other != kept[0] for other in kept[2:])


def test_frames_that_the_model_turns_to_rgb_are_drawn_in_rgb(tool, monkeypatch):
    drawn = Drawn(monkeypatch, tool)
    tool.main([config(), 'none', 'clip 1.mp4', '--out', 'a.png', '--cfg-options',
               'model.data_preprocessor.to_rgb=True'])
    np.testing.assert_array_equal(
        drawn.row.images, view_of(tool).permute(1, 2, 3, 0)[::2].flip(-1).numpy())


class DrawnOver:
    """Takes the place of plot_overlays and keeps what it is given."""

    def __init__(self, monkeypatch, tool):
        monkeypatch.setattr(tool.choose_pictures.__module__ + '.plot_overlays', self)

    def __call__(self, images, overlays, path, heading=''):
        self.images, self.overlays, self.heading = images, overlays, heading


def test_merged_tokens_and_attention_are_those_of_the_model(tool, monkeypatch, capsys):
    model = saved_model(tool, 'a.pth', plain(MERGES))
    view = view_of(tool)
    merges, attention = MergeTrace(model), AttentionRollout(model)
    with torch.inference_mode(), merges, attention:
        model(((view - 114.75) / 57.375)[None, None], stage='head')
    drawn = DrawnOver(monkeypatch, tool)
    tool.main(['tiny.py', 'a.pth', 'clip 1.mp4', '--out', 'a.png', '--rollout',
               '--tokens', '3', '--device', 'cpu'])
    expected = merges.merged(0, (8, 4, 4))
    tokens, heat = drawn.overlays
    np.testing.assert_array_equal(drawn.images, view.permute(1, 2, 3, 0).numpy())
    np.testing.assert_array_equal(tokens.merged.tokens, expected.tokens)
    np.testing.assert_allclose(tokens.merged.weight, expected.weight, atol=1e-5)
    assert tokens.shown.tolist() == expected.largest(3).tolist()
    assert tokens.title == '128 patches in 32 tokens, coloured: the 3 largest'
    np.testing.assert_allclose(heat.heat, attention.heat(0, (8, 4, 4)), atol=1e-5)
    assert drawn.heading.startswith('clip 1.mp4, tiny: Predicted class ')
    out = capsys.readouterr().out
    assert 'merged: 128 patches in 32 tokens' in out and out.count('\ntoken ') == 3
    first = expected.largest(1)[0]
    assert f'\ntoken {first}: {expected.counts[first]} patches of ' in out
    shares = re.findall(r'shares of the token frames: (.*)', out)[0].split(', ')
    np.testing.assert_allclose([float(share) for share in shares],
                               attention.heat(0, (8, 4, 4)).sum((1, 2)), atol=6e-4)


def test_pictures_of_merged_tokens(tool, monkeypatch, capsys):
    tool.main([plain(MERGES), 'none', 'clip 1.mp4'])
    assert 'rolled out' not in capsys.readouterr().out
    with Image.open('work_dirs/tokens/tiny_clip 1.gif') as moving:
        assert moving.n_frames == 8
    with Image.open('work_dirs/tokens/tiny_clip 1.png') as still:
        alone = still.height
    tool.main(['tiny.py', 'none', 'clip 1.mp4', '--rollout', '--out', 'both.png'])
    with Image.open('both.png') as still:
        assert still.height > 1.7 * alone


@pytest.mark.parametrize('reducers, gone', [
    ([], 0), ([dict(type='TemporalSelection', before=0, keep=0.5)], 4)])
def test_attention_of_models_that_merge_nothing(tool, monkeypatch, reducers, gone):
    drawn = DrawnOver(monkeypatch, tool)
    tool.main([plain(reducers), 'none', 'clip 1.mp4', '--rollout', '--out', 'a.png'])
    (heat, ) = drawn.overlays
    assert heat.heat.shape == (8, 4, 4) and heat.heat.sum() == pytest.approx(1)
    assert (heat.heat.sum((1, 2)) == 0).sum() == gone


PRUNED = """
_base_ = {base!r}
model = dict(
    backbone=dict(
        _delete_=True, type='ReducedViT', num_frames=8, img_size=32, patch_size=8,
        embed_dims=12, num_heads=3, depth=4, reducers={reducers}),
    cls_head=dict(_delete_=True, type='TimeSformerHead', num_classes=3, in_channels=12,
                  average_clips='prob'))
"""


def test_pruned_tokens_of_a_recognizer(tool, monkeypatch, capsys):
    """8 frames are 4 token frames of 4x4 places."""
    base = write_config(Path('base.py').absolute(), Path('.'))
    reducers = [dict(type='KeyframePruning', within=1, keep=0.7),
                dict(type='TokenMerging', before=3, scope='clip')]
    Path('tiny.py').write_text(PRUNED.format(base=str(base), reducers=reducers))
    model, view = saved_model(tool, 'a.pth', 'tiny.py'), view_of(tool)
    pruning, merges = PruningTrace(model), MergeTrace(model)
    with torch.inference_mode(), pruning, merges:
        model(((view - 114.75) / 57.375)[None, None], stage='head')
    drawn = DrawnOver(monkeypatch, tool)
    tool.main(['tiny.py', 'a.pth', 'clip 1.mp4', '--rollout', '--out', 'a.png',
               '--device', 'cpu'])
    whole, kept, merged, heat = drawn.overlays
    (expected, ) = pruning.pruned(0, (4, 4, 4))
    assert whole.kept.all() and expected.kept.sum() == 45
    np.testing.assert_array_equal(kept.kept, expected.kept)
    np.testing.assert_array_equal(merged.merged.tokens,
                                  merges.merged(0, (4, 4, 4)).tokens)
    assert heat.heat.sum() == pytest.approx(1)
    out = capsys.readouterr().out
    counts = ', '.join(map(str, expected.counts))
    assert (f'kept within block 1: 45 of 64 tokens (70%); of the token frames {counts}'
            in out) and 'keyframe: token frame #2' in out


@pytest.mark.parametrize('arguments, words', [
    (['CONFIG', 'none', 'clip 1.mp4', '--time', '1'], '--time is for detectors; the '
     'model of tiny.py is a recogniser'),
    (['CONFIG', 'none', 'clip 1.mp4', '--score-thr', '1'], '--score-thr is for detect'),
    (['CONFIG', 'none', 'clip 1.mp4', '--detections'], '--detections: the model of '
     'tiny.py is a recogniser'),
    (['CONFIG', 'none', 'clip 1.mp4', '--rollout'],
     'holds no attention that can be rolled out: allowed are .*ReducedTimeSformer'),
    (['CONFIG', 'none', 'clip 1.mp4', '--tokens', '4'],
     '--tokens 4: config file tiny.py has no merges whose tokens could be coloured'),
    (['PLAIN', 'none', 'clip 1.mp4', '--tokens', '0'], '--tokens 0: must be at least'),
    (['PLAIN', 'none', 'clip 1.mp4', '--cfg-options', 'model.backbone.num_frames=4'],
     'clips of 8x32x32 .* are for 4x32x32'),
    (['gone.py', 'none', 'clip 1.mp4'], 'config file gone.py not found'),
    (['CONFIG', 'gone.pth', 'clip 1.mp4'], 'no checkpoint file gone.pth'),
    (['CONFIG', 'CONFIG', 'clip 1.mp4'], 'tiny.py is not a checkpoint'),
    (['CONFIG', 'other.pth', 'clip 1.mp4'],
     r'checkpoint other.pth does not fit the model of tiny.py: .*\d+ missing .*'
     'convert_checkpoint.py'),
    (['CONFIG', 'none', 'gone.mp4'], 'video gone.mp4 cannot be read: no such file'),
    (['CONFIG', 'none', 'tiny.py'], 'video tiny.py cannot be read: '),
    (['CONFIG', 'none', 'clip 1.mp4', '--view', '1'],
     '--view 1: the test pipeline of tiny.py gives 1 views, 0 to 0'),
    (['CONFIG', 'none', 'clip 1.mp4', '--view', '-1'], 'gives 1 views'),
    (['CONFIG', 'none', 'clip 1.mp4', '--out', 'a.jpg'],
     '--out a.jpg: must end in .png, .pdf, .svg or .gif'),
    (['CONFIG', 'none', 'clip 1.mp4', '--out', '.'], '--out . is a directory'),
    (['CONFIG', 'none', 'clip 1.mp4', '--device', 'abacus'],
     '--device abacus cannot be used: '),
    (['CONFIG', 'none', 'clip 1.mp4', '--classes', 'names.txt'],
     f'names.txt has 2 names, the model {NUM_CLASSES} classes'),
    (['CONFIG', 'none', 'clip 1.mp4', '--classes', 'gone.txt'], 'gone.txt'),
    (['CONFIG', 'none', 'clip 1.mp4', '--classes', 'clip 1.mp4'],
     '--classes clip 1.mp4: not a text file$'),
    (['CONFIG', 'none', 'clip 1.mp4', '--cfg-options', 'model.backbone.reducers=[]'],
     'tiny.py: the model has no reducers to watch; --rollout draws'),
    (['CONFIG', 'none', 'clip 1.mp4', '--cfg-options', 'model.type=Recognizer2D'],
     'model.type=Recognizer2D: only Recognizer3D, MMRecognizer3D, EVAD'),
    (['CONFIG', 'none', 'clip 1.mp4', '--motion'],
     '--motion: the model of config file tiny.py takes no motion'),
    (['PLAIN', 'none', 'clip 1.mp4', '--query', '0', '1', '1'],
     '--query: config file tiny.py has no deformable attention'),
    (['CONFIG', 'none', 'clip 1.mp4', '--cfg-options',
      'model.backbone.reducers.0.keep=0.1'], 'keep=0.1 leaves none of 4 token frames'),
    (['CONFIG', 'none', 'clip 1.mp4', '--cfg-options', 'model.cls_head.in_channels=17'],
     r'the model cannot take one view of 3x8x32x32 \(C x T x H x W\): mat1 and mat2'),
    (['CONFIG', 'none', 'clip 1.mp4', '--cfg-options', 'test_dataloader=None',
      'test_pipeline=None'], 'has no test pipeline'),
    (['CONFIG', 'none', 'clip 1.mp4', '--cfg-options',
      'test_dataloader.dataset.pipeline.0.type=RawFrameDecode'],
     "the test pipeline asks for 'frame_dir' of a sample, which a video file does not"),
    (['CONFIG', 'none', 'clip 1.mp4', '--cfg-options',
      'test_dataloader.dataset.pipeline.3.input_format=NCHW'],
     "must decode a video, end in FormatShape"),
    (['CONFIG', 'none', 'clip 1.mp4', '--cfg-options',
      'test_dataloader.dataset.pipeline.2.type=DecordDecoder'],
     'DecordDecoder is not in the'),
])
def test_mistakes_are_one_line(tool, capfd, arguments, words):
    Path('names.txt').write_text('a\nb\n')
    torch.save(dict(state_dict={'backbone.a': torch.zeros(1)}), 'other.pth')
    path = plain(MERGES) if arguments[0] == 'PLAIN' else config()
    with pytest.raises(SystemExit) as ended:
        tool.main([path if argument in ('CONFIG', 'PLAIN') else argument
                   for argument in arguments])
    assert ended.value.code == 2
    lines = [line for line in capfd.readouterr().err.splitlines()
             if line.startswith('error: ')]
    assert len(lines) == 1 and re.search(words, lines[0]), lines
    assert not Path('work_dirs').exists()
