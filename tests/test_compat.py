# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""compat: each entry mends its fault, only where it is, and once."""
import copy
import functools
import importlib.util
import pickle
import socket
import sys
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmaction.models import MViTHead
from mmaction.registry import TRANSFORMS
from mmaction.structures import ActionDataSample
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader

from mmaction_tokenreduce import compat
from mmaction_tokenreduce.datasets import RandAugment


@pytest.fixture
def no_safe_globals(monkeypatch):
    """torch as it is before compat, and after the test as it was before the test."""
    held = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    yield
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(held)


@pytest.fixture
def without_drn(monkeypatch):
    """A process in which no stand-ins were made yet."""
    for name in list(sys.modules):
        if name.startswith(compat.DRN_PACKAGE):
            monkeypatch.delitem(sys.modules, name)
    yield
    for name in list(sys.modules):
        if name.startswith(compat.DRN_PACKAGE):
            del sys.modules[name]


def find_mmaction_in(folder, monkeypatch):
    spec = None if folder is None else SimpleNamespace(
        submodule_search_locations=[str(folder)])
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: spec)


def test_drn_stand_ins_only_where_the_real_ones_are_absent(
        without_drn, tmp_path, monkeypatch):
    find_mmaction_in(None, monkeypatch)
    assert not compat.add_drn_stand_ins()
    real = tmp_path / 'models/localizers/drn'
    real.mkdir(parents=True)
    (real / 'drn.py').touch()
    find_mmaction_in(tmp_path, monkeypatch)
    assert not compat.add_drn_stand_ins()
    assert compat.DRN_PACKAGE not in sys.modules

    (real / 'drn.py').unlink()
    assert compat.add_drn_stand_ins()
    from mmaction.models.localizers.drn.drn import DRN
    with pytest.raises(RuntimeError, match='#2714'):
        DRN()
    assert not compat.add_drn_stand_ins()  # once


def checkpoint_of_a_run():
    """Message hub and optimiser state as mmengine saves them."""
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    history = HistoryBuffer()
    history.update(np.float64(2.5))
    history.update(0.5, count=3)
    scalars = dict(f4=np.float32(1.5), i8=np.int64(7), b=np.bool_(True))
    return dict(
        state_dict=model.state_dict(), optimizer=optimizer.state_dict(),
        meta=dict(epoch=1, seed=np.int64(3)),
        message_hub=dict(log_scalars={'train/loss': history}, runtime_info=scalars,
                         matrix=np.arange(6, dtype=np.float32).reshape(2, 3)))


def assert_same_checkpoint(loaded, saved):
    torch.testing.assert_close(loaded['state_dict'], saved['state_dict'])
    torch.testing.assert_close(
        loaded['optimizer']['state'], saved['optimizer']['state'])
    hub = loaded['message_hub']
    history = hub['log_scalars']['train/loss']
    assert (history.current(), history.mean()) == (0.5, 0.75)
    assert history.statistics('max') == 2.5
    assert hub['runtime_info'] == saved['message_hub']['runtime_info']
    assert hub['runtime_info']['f4'].dtype == np.float32
    np.testing.assert_array_equal(hub['matrix'], saved['message_hub']['matrix'])


def test_weights_only_load_reads_what_mmengine_saves(no_safe_globals, tmp_path):
    path = tmp_path / 'epoch_1.pth'
    saved = checkpoint_of_a_run()
    torch.save(saved, path)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path)
    assert compat.allow_mmengine_checkpoints()
    assert not compat.allow_mmengine_checkpoints()  # once
    assert_same_checkpoint(torch.load(path, weights_only=True), saved)


@pytest.mark.parametrize('old, new', [(b'numpy._core.', b'numpy.core.'),
                                      (b'numpy.core.', b'numpy._core.')])
def test_module_names_of_both_numpy_generations(old, new, tmp_path):
    saved = checkpoint_of_a_run()
    torch.save(saved, tmp_path / 'here.pth')
    renamed = tmp_path / 'renamed.pth'
    with zipfile.ZipFile(tmp_path / 'here.pth') as source, \
            zipfile.ZipFile(renamed, 'w') as target:
        for entry in source.infolist():
            data = source.read(entry)
            if entry.filename.endswith('data.pkl'):
                assert b'.multiarray\n' in data
                data = data.replace(old, new)
            target.writestr(entry.filename, data)
    assert_same_checkpoint(torch.load(renamed, weights_only=True), saved)


class Reaching:
    """Pickles as getattr(owner, name)."""

    def __init__(self, owner, name):
        self.call = (getattr, (owner, name))

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize('owner, name', [
    (HistoryBuffer, '__init__'),  # whose __builtins__ a pickle could overwrite
    (HistoryBuffer, '_set_default_statistics'),
    (HistoryBuffer, 'nothing'),
    (np.ndarray, 'mean'),
    (getattr, '__self__'),  # the module builtins
])
def test_getattr_in_a_checkpoint_reaches_nothing_else(owner, name, tmp_path):
    path = tmp_path / 'reaching.pth'
    torch.save(dict(state_dict=Reaching(owner, name)), path)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path)


def test_other_globals_stay_refused(tmp_path):
    path = tmp_path / 'code.pth'
    torch.save(dict(config=Config(dict(a=1))), path)
    with pytest.raises(pickle.UnpicklingError, match='mmengine.config'):
        torch.load(path)


class RunsCode:
    def __reduce__(self):
        return print, ('code in a checkpoint ran', )


def test_downloaded_checkpoints_are_read_weights_only(tmp_path, monkeypatch, capsys):
    """A server on the loopback device; mmengine would unpickle anything from it."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'hub'))
    good = dict(state_dict=dict(weight=torch.ones(2)), loss=HistoryBuffer([1.0], [1]))
    torch.save(good, tmp_path / 'good.pth')
    torch.save(dict(state_dict=RunsCode()), tmp_path / 'bad.pth')
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f'http://127.0.0.1:{server.server_port}'
        loaded = CheckpointLoader.load_checkpoint(f'{address}/good.pth',
                                                  map_location='cpu', logger='silent')
        with pytest.raises(pickle.UnpicklingError, match='[Ww]eights.only'):
            CheckpointLoader.load_checkpoint(f'{address}/bad.pth', map_location='cpu',
                                             logger='silent')
        server.shutdown()
    assert torch.equal(loaded['state_dict']['weight'], torch.ones(2))
    assert 'code in a checkpoint ran' not in capsys.readouterr().out


def test_heads_take_bfloat16_scores():
    head = MViTHead(in_channels=4, num_classes=3, topk=(1, ))
    scores = torch.tensor([[3.0, 1.0, 0.0], [0.5, 0.0, 2.0]])
    samples = [ActionDataSample().set_gt_label(0), ActionDataSample().set_gt_label(1)]
    expected = head.loss_by_feat(scores, samples)
    losses = head.loss_by_feat(scores.bfloat16(), samples)
    assert losses['loss_cls'].dtype == torch.float32
    torch.testing.assert_close(losses['loss_cls'], expected['loss_cls'])
    assert losses['top1_acc'] == expected['top1_acc'] == 0.5


AUGMENT = dict(type='mmaction.PytorchVideoWrapper', op='RandAugment', magnitude=9,
               num_layers=4, prob=1.0)


@pytest.fixture
def pytorchvideo(tmp_path, monkeypatch):
    """Sets what ``pytorchvideo.transforms`` is; None: the package is not there."""
    names = ('pytorchvideo', 'pytorchvideo.transforms')
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)  # so that it is put back

    def write(text):
        if text is not None:
            (tmp_path / 'pytorchvideo').mkdir()
            (tmp_path / 'pytorchvideo/__init__.py').touch()
            (tmp_path / 'pytorchvideo/transforms.py').write_text(text)
            monkeypatch.syspath_prepend(str(tmp_path))
            for name in names:
                del sys.modules[name]

    return write


@pytest.mark.parametrize('text', [
    None, 'import torchvision.transforms.functional_tensor_of_old'])
def test_rand_augment_where_pytorchvideo_cannot_be_imported(text, pytorchvideo):
    """Not installed, or as 0.1.5 is beside today's torchvision."""
    pytorchvideo(text)
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (20, 30, 3), np.uint8)] * 3
    augment = TRANSFORMS.build(AUGMENT)
    np.random.seed(0)
    changed = augment(dict(imgs=list(frames)))['imgs']
    np.random.seed(0)
    expected = RandAugment(magnitude=9, num_layers=4, prob=1.0, replace=False, fill=0)(
        dict(imgs=list(frames)))['imgs']
    np.testing.assert_array_equal(changed, expected)
    assert changed[0].dtype == np.uint8 and (changed[0] != frames[0]).any()
    copied = pickle.loads(pickle.dumps(augment))  # as worker processes may get it
    np.random.seed(0)
    np.testing.assert_array_equal(copied(dict(imgs=list(frames)))['imgs'], expected)
    with pytest.raises(TypeError, match="unexpected keyword argument 'transform_hpara"):
        TRANSFORMS.build(dict(AUGMENT, transform_hparas=dict(fill=(1, 1, 1))))
    with pytest.raises(ValueError, match=r"op='AugMix'\) needs pytorchvideo.*import"):
        TRANSFORMS.build(dict(type='mmaction.PytorchVideoWrapper', op='AugMix'))


def test_pytorchvideo_is_used_where_it_works(pytorchvideo):
    pytorchvideo('def RandAugment(**kwargs):\n    return lambda frames: 255 - frames\n')
    frames = [np.full((4, 5, 3), 55, np.uint8)] * 2
    assert (np.array(TRANSFORMS.build(AUGMENT)(dict(imgs=frames))['imgs']) == 200).all()


def test_apply_changes_nothing_the_second_time():
    assert compat.apply() == []  # the import of the package was the first


def test_launchers_without_cuda(monkeypatch):
    monkeypatch.setattr('mmengine.device.get_device', lambda: 'cpu')
    assert not compat.init_cpu_distributed('none')
    with pytest.raises(ValueError, match='--launcher slurm needs CUDA'):
        compat.init_cpu_distributed('slurm')
    monkeypatch.delenv('RANK', raising=False)
    monkeypatch.delenv('MASTER_PORT', raising=False)
    with pytest.raises(ValueError, match='RANK.*dist_train.sh'):
        compat.init_cpu_distributed('pytorch')
    monkeypatch.setattr('mmengine.device.get_device', lambda: 'cuda')
    assert not compat.init_cpu_distributed('pytorch')


def test_gloo_group_is_there_before_the_runner(monkeypatch):
    monkeypatch.setattr('mmengine.device.get_device', lambda: 'cpu')
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    for key, value in dict(RANK=0, WORLD_SIZE=1, MASTER_ADDR='127.0.0.1',
                           MASTER_PORT=port).items():
        monkeypatch.setenv(key, str(value))
    try:
        assert compat.init_cpu_distributed('pytorch', timeout=20)
        assert torch.distributed.get_backend() == 'gloo'
        assert compat.init_cpu_distributed('pytorch')  # finds the group there
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize('given', [
    dict(), dict(find_unused_parameters=True),
    dict(model_wrapper_cfg=dict(type='MMDistributedDataParallel', static_graph=True))])
def test_model_wrapper_without_device_ids(given):
    cfg = Config(copy.deepcopy(given))
    compat.cpu_model_wrapper(cfg)
    wrapper = cfg.model_wrapper_cfg
    assert wrapper.type == 'MMDistributedDataParallel'
    assert 'device_ids' in wrapper and wrapper.device_ids is None
    if 'model_wrapper_cfg' in given:
        assert wrapper.static_graph and 'find_unused_parameters' not in wrapper
    else:
        assert wrapper.find_unused_parameters is bool(given)
