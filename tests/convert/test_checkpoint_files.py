# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Checkpoint files: what is read, what is refused and why, how they are written."""
import argparse
import os
import pickle
import sys

import pytest
import torch

from mmaction_tokenreduce.convert import read_checkpoint, write_checkpoint

WEIGHTS = {'a.weight': torch.arange(6.).view(2, 3), 'b': torch.tensor(2)}


class Config:
    """Stands for anything that a checkpoint must not hold."""


class Harmful:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        return os.system, ('echo unpickled > harm.txt', )


@pytest.mark.parametrize('content', [
    WEIGHTS,
    dict(model_state=WEIGHTS, optimizer_state=dict(step=3, lr=[1e-4]), epoch=200,
         cfg='TRAIN:\n  ENABLE: true\n'),
    dict(state_dict=WEIGHTS, meta=dict(epoch=1)),
    dict(model=WEIGHTS),
    dict(module=WEIGHTS),
    dict(model=WEIGHTS, args=argparse.Namespace(lr=1e-3, layers=[1, 2]), epoch=3),
])
def test_reads_weights_wherever_they_stand(tmp_path, content):
    torch.save(content, tmp_path / 'released.pyth')
    torch.testing.assert_close(read_checkpoint(tmp_path / 'released.pyth'), WEIGHTS,
                               rtol=0, atol=0)


def test_reads_safetensors(tmp_path):
    safetensors = pytest.importorskip('safetensors.torch')
    safetensors.save_file(WEIGHTS, tmp_path / 'released.safetensors')
    torch.testing.assert_close(read_checkpoint(tmp_path / 'released.safetensors'),
                               WEIGHTS, rtol=0, atol=0)
    (tmp_path / 'text.safetensors').write_text('no tensors at all in here')
    with pytest.raises(ValueError, match='text.safetensors is not a safetensors file'):
        read_checkpoint(tmp_path / 'text.safetensors')


def test_reads_what_mmengine_writes(tmp_path):
    """Its message hub holds HistoryBuffers and numpy scalars; only weights are left."""
    np = pytest.importorskip('numpy')
    hub = pytest.importorskip('mmengine.logging').MessageHub('written by a test')
    for loss in (2.5, 1.5):
        hub.update_scalar('train/loss', np.float64(loss))
    hub.update_info('best', np.int64(3))
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(2))])
    content = dict(state_dict=WEIGHTS, message_hub=hub.state_dict(), meta=dict(epoch=2),
                   optimizer=optimizer.state_dict(), param_schedulers=[])
    torch.save(content, tmp_path / 'epoch_2.pth')
    torch.testing.assert_close(read_checkpoint(tmp_path / 'epoch_2.pth'), WEIGHTS,
                               rtol=0, atol=0)
    hub.update_info('run', Config())  # what mmengine itself does not put there
    torch.save({**content, 'message_hub': hub.state_dict()}, tmp_path / 'other.pth')
    with pytest.raises(ValueError, match=r'other.pth is refused: it holds .*\.Config'):
        read_checkpoint(tmp_path / 'other.pth')


def test_safetensors_without_the_package_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / 'released.safetensors').write_bytes(b'x')
    monkeypatch.setitem(sys.modules, 'safetensors', None)
    with pytest.raises(ValueError, match='pip install safetensors'):
        read_checkpoint(tmp_path / 'released.safetensors')


def saved(content, **kwargs):
    return lambda path: torch.save(content, path, **kwargs)


def truncated(path):
    torch.save(dict(a=torch.zeros(20000)), path)
    path.write_bytes(path.read_bytes()[:30000])


REFUSED = {
    'pickled_class': (saved(dict(model_state=WEIGHTS, cfg=Config())),
                      r'is refused: it holds a pickled \S+\.Config, .* could run code;'
                      ' where you trust the file, save its tensors alone'),
    'old_format_class': (
        saved(dict(cfg=Config()), _use_new_zipfile_serialization=False),
        'is refused: it holds a pickled'),
    'harmful': (saved(dict(model_state=Harmful())),
                r'is refused: it holds a pickled \w+\.system'),
    'plain_pickle': (lambda path: path.write_bytes(pickle.dumps(dict(blobs=[1]))),
                     'not a checkpoint that torch.save wrote, or a pickle of another'),
    'text': (lambda path: path.write_text('404: Not Found\n'), 'is not a checkpoint'),
    'page': (lambda path: path.write_text('<!DOCTYPE html>\n<html></html>'),
             'is not a checkpoint'),
    'empty': (lambda path: path.touch(), 'is empty: download it again'),
    'directory': (lambda path: path.mkdir(), 'is a directory'),
    'truncated': (truncated, 'is not a checkpoint, or a damaged one'),
    'zip': (lambda path: path.write_bytes(b'PK\x03\x04 and nothing else'),
            'is not a checkpoint, or a damaged one'),
    'tensor': (saved(torch.zeros(2)), 'holds a Tensor, not a dict of weights'),
    'no_weights': (saved(dict(epoch=3, cfg='x')),
                   'holds no dict of tensors, .*; it holds epoch, cfg'),
    'no_tensors': (saved(dict(model_state=dict(a=torch.zeros(1), b=3))),
                   'holds no dict of tensors, .*; it holds b'),
    'nothing': (saved(dict()), 'it holds nothing'),
}


@pytest.mark.parametrize('name', REFUSED)
def test_other_files_are_refused_in_one_line(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    make, message = REFUSED[name]
    path = tmp_path / 'source.pyth'
    make(path)
    with pytest.raises(ValueError, match=message) as caught:
        read_checkpoint(path)
    assert '\n' not in str(caught.value) and 'source.pyth' in str(caught.value)
    assert os.listdir(tmp_path) == ['source.pyth']  # nothing in it was run


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match='no checkpoint file .*gone.pyth'):
        read_checkpoint(tmp_path / 'gone.pyth')


def test_written_whole_and_loadable_by_mmengine(tmp_path):
    mmengine = pytest.importorskip('mmengine.runner.checkpoint')
    path = tmp_path / 'new' / 'folder' / 'ours.pth'
    write_checkpoint(path, WEIGHTS, dict(source='toy', config='configs/toy.py'))
    loaded = torch.load(path, weights_only=True)
    torch.testing.assert_close(loaded['state_dict'], WEIGHTS, rtol=0, atol=0)
    assert loaded['meta'] == dict(source='toy', config='configs/toy.py')
    model = torch.nn.Module()
    model.a = torch.nn.Linear(3, 2, bias=False)
    model.register_buffer('b', torch.tensor(0))
    mmengine.load_checkpoint(model, str(path), strict=True)
    torch.testing.assert_close(model.a.weight.detach(), WEIGHTS['a.weight'])
    assert os.stat(path).st_mode & 0o444 == 0o444 & ~_umask()


def test_nothing_is_left_of_a_failed_write(tmp_path):
    path = tmp_path / 'ours.pth'
    path.write_text('older')
    with pytest.raises((AttributeError, pickle.PicklingError)):
        write_checkpoint(path, dict(a=lambda: None), {})
    assert path.read_text() == 'older' and os.listdir(tmp_path) == ['ours.pth']


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask
