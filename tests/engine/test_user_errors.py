# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""user_errors: mistakes are one line, bugs keep their traceback."""
import errno

import pytest
import torch
from mmengine.registry import Registry
from mmengine.runner.checkpoint import load_from_local

from mmaction_tokenreduce.datasets import BadVideoError
from mmaction_tokenreduce.engine.user_errors import (
    TRACEBACK_VARIABLE,
    ConfigError,
    SetUpDoneHook,
    report_mistakes,
    users_mistake,
)

PARTS = Registry('part')


@PARTS.register_module()
class Part:
    """Something that a config builds."""

    def __init__(self, size: int = 1) -> None:
        if size < 1:
            raise ValueError(f'Part: size={size} must be\n  1 or more')
        assert size < 10, 'size is too large'
        self.size = size + 0 * int(size)


class WorkerError:
    """Re-raises as a data loader does for its worker processes."""

    def __init__(self, error):
        from torch._utils import ExceptionWrapper
        try:
            raise error
        except type(error):
            self.wrapper = ExceptionWrapper(where='in DataLoader worker process 0')

    def __call__(self):
        self.wrapper.reraise()


def caught(function, *args):
    try:
        function(*args)
    except Exception as error:
        return error
    raise AssertionError('nothing was raised')


def raising(error):
    raise error


def build(**config):
    return PARTS.build(config)


@pytest.mark.parametrize('config, line', [
    (dict(type='Part', size=0), 'Part: size=0 must be 1 or more'),
    (dict(type='Part', size=10), 'size is too large'),
    (dict(type='Part', siez=2), "Part.__init__() got an unexpected keyword argument "
                                "'siez'"),
    (dict(type='Prat'), 'Prat is not in the'),
    (dict(size=2), 'must contain the key "type"'),
])
def test_mistakes_in_a_config_count_until_training_begins(config, line):
    error = caught(lambda: build(**config))
    assert line in users_mistake(error, setting_up=True)
    assert '\n' not in users_mistake(error, setting_up=True)
    assert users_mistake(error, setting_up=False) is None


@pytest.mark.parametrize('bug', [
    lambda: int('x'), lambda: dict()['key'], lambda: None + 1, lambda: [].nothing,
    lambda: raising(ValueError()), lambda: raising(RuntimeError('words')),
    lambda: build(type='Part', size='3')])
def test_what_nobody_wrote_is_a_bug(bug):
    assert users_mistake(caught(bug), setting_up=True) is None


@pytest.mark.parametrize('error, line', [
    (ConfigError('no model'), 'no model'),
    (BadVideoError('video a.mp4 cannot be read'), 'video a.mp4 cannot be read'),
    (FileNotFoundError('list a.txt not found'), 'list a.txt not found'),
    (FileNotFoundError(errno.ENOENT, 'No such file', 'a.txt'), 'No such file: a.txt'),
    (PermissionError(errno.EACCES, 'Permission denied', 'w'), 'Permission denied: w'),
    (OSError(errno.ENOSPC, 'No space left on device'), 'No space left on device'),
])
@pytest.mark.parametrize('setting_up', [True, False])
def test_files_and_videos_count_at_any_time(error, line, setting_up):
    assert line in users_mistake(caught(raising, error), setting_up)


def test_the_original_message_of_a_worker_is_shown():
    error = caught(WorkerError(BadVideoError('video a: b.mp4 cannot be read: empty')))
    assert users_mistake(error, False) == 'video a: b.mp4 cannot be read: empty'


def test_other_errors_of_workers_are_bugs():
    error = caught(WorkerError(ValueError('wrong shape')))
    assert users_mistake(error, setting_up=False) is None


def test_a_registry_that_adds_class_names_at_every_level():
    message = 'class `A` in a/b.py: class `B` in c.py: B: size=0'
    error = caught(raising, ValueError(message))
    assert users_mistake(error, True) == 'class `B` in c.py: B: size=0'


class Anything:
    """Not weights."""


@pytest.mark.parametrize('content, line', [
    (b'', 'cannot be read'), (b'PK\x03\x04 damaged', 'cannot be read'),
    (b'words', 'cannot be read'), (None, 'holds more than weights'),
])
def test_checkpoints_that_cannot_be_read(tmp_path, content, line):
    path = tmp_path / 'epoch_1.pth'
    if content is None:
        torch.save(dict(state_dict=dict(a=Anything())), path)
    else:
        path.write_bytes(content)
    shown = users_mistake(caught(load_from_local, str(path), 'cpu'), setting_up=True)
    assert shown.startswith(f'checkpoint {path} ') and line in shown
    assert '\n' not in shown
    if content is None:
        assert 'Anything' in shown and 'weights_only' not in shown


def test_one_line_and_exit_status(capsys, monkeypatch):
    monkeypatch.delenv(TRACEBACK_VARIABLE, raising=False)
    monkeypatch.delenv('RANK', raising=False)
    with pytest.raises(SystemExit) as ended, report_mistakes():
        build(type='Part', size=0)
    assert ended.value.code == 2
    assert capsys.readouterr().err == 'error: Part: size=0 must be 1 or more\n'
    monkeypatch.setenv('RANK', '1')
    with pytest.raises(SystemExit), report_mistakes():
        build(type='Part', size=0)
    assert capsys.readouterr().err.startswith('error on rank 1: Part: size=0')


def test_the_variable_brings_the_traceback_back(monkeypatch):
    monkeypatch.setenv(TRACEBACK_VARIABLE, '1')
    with pytest.raises(ValueError, match='size=0'), report_mistakes():
        build(type='Part', size=0)


@pytest.mark.parametrize('begins', ['before_train', 'before_test'])
def test_setting_up_ends_when_training_or_testing_begins(begins):
    stage = SetUpDoneHook()
    with pytest.raises(SystemExit), report_mistakes(stage):
        build(type='Part', size=0)
    with pytest.raises(ValueError, match='size=0'), report_mistakes(stage):
        getattr(stage, begins)(runner=None)
        build(type='Part', size=0)
