# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""cli: what the options make of a config, without running it."""
import os
from pathlib import Path

import pytest

from mmaction_tokenreduce.engine import cli

CONFIG = '''
model = dict(type='Recognizer3D')
train_dataloader = val_dataloader = test_dataloader = dict(batch_size=2)
train_cfg = dict(max_epochs=2)
val_cfg = test_cfg = dict()
val_evaluator = test_evaluator = dict(type='AccMetric')
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))
'''


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, 'environ', dict(os.environ))
    Path('small.py').write_text(CONFIG)

    def with_lines(lines):
        Path('small.py').write_text(f'{CONFIG}\n{lines}\n')
        return 'small.py'

    return with_lines


def train_config(config, *options, lines=''):
    args = [config(lines), *options]
    return cli.train_config(cli.train_parser().parse_args(args))


def test_work_dir_is_option_then_config_then_name(config):
    assert train_config(config).work_dir == 'work_dirs/small'
    assert train_config(config, lines="work_dir = 'mine'").work_dir == 'mine'
    assert train_config(config, '--work-dir', 'w', lines="work_dir = 'mine'"
                        ).work_dir == 'w'


def test_cfg_options_come_before_what_is_made_of_them(config):
    cfg = train_config(config, '--cfg-options', 'optim_wrapper.optimizer.lr=0.5',
                       'work_dir=there', 'train_cfg.max_epochs=7')
    assert cfg.optim_wrapper.optimizer.lr == 0.5 and cfg.train_cfg.max_epochs == 7
    assert cfg.work_dir == 'there'


def test_no_validate(config):
    cfg = train_config(config, '--no-validate')
    assert cfg.val_cfg is cfg.val_dataloader is cfg.val_evaluator is None


def test_seed_options_win_over_the_config(config):
    assert train_config(config).randomness == dict(seed=None)
    lines = 'randomness = dict(seed=3, deterministic=False)'
    assert train_config(config, lines=lines).randomness == dict(
        seed=3, deterministic=False)
    cfg = train_config(config, '--seed', '0', '--diff-rank-seed', '--deterministic',
                       lines=lines)
    assert cfg.randomness == dict(seed=0, diff_rank_seed=True, deterministic=True)
    assert os.environ['CUBLAS_WORKSPACE_CONFIG']


@pytest.mark.parametrize('device, expected', [
    ('cpu', dict(type='CPUAmpOptimWrapper')),
    ('cuda', dict(type='AmpOptimWrapper', loss_scale='dynamic'))])
@pytest.mark.parametrize('options, lines', [
    (['--amp'], ''), (['--amp'], "optim_wrapper['type'] = 'OptimWrapper'"),
    ([], "optim_wrapper.update(type='AmpOptimWrapper', loss_scale='dynamic')")])
def test_amp_follows_the_machine(config, monkeypatch, device, expected, options, lines):
    monkeypatch.setattr(cli, 'get_device', lambda: device)
    wrapper = train_config(config, *options, lines=lines).optim_wrapper
    assert wrapper.pop('optimizer').lr == 0.1
    assert wrapper == expected


def test_amp_options_of_the_config(config, monkeypatch):
    lines = ("optim_wrapper.update(type='AmpOptimWrapper', loss_scale=8., "
             "dtype='float16')")
    monkeypatch.setattr(cli, 'get_device', lambda: 'cuda')
    wrapper = train_config(config, '--amp', lines=lines).optim_wrapper
    assert (wrapper.loss_scale, wrapper.dtype) == (8.0, 'float16')
    monkeypatch.setattr(cli, 'get_device', lambda: 'cpu')
    assert set(train_config(config, lines=lines).optim_wrapper) == {'type', 'optimizer'}


def test_without_amp_the_wrapper_stays(config):
    assert 'type' not in train_config(config).optim_wrapper


@pytest.mark.parametrize('device, lines, words', [
    ('cpu', "optim_wrapper['type'] = 'OptimWrapperDict'", 'OptimWrapperDict'),
    ('mps', '', 'not supported on mps')])
def test_amp_that_cannot_be(config, monkeypatch, device, lines, words):
    monkeypatch.setattr(cli, 'get_device', lambda: device)
    with pytest.raises(cli.ConfigError, match=words):
        train_config(config, '--amp', lines=lines)


def test_auto_scale_lr(config):
    lines = 'auto_scale_lr = dict(base_batch_size=64, enable=False)'
    assert train_config(config, '--auto-scale-lr', lines=lines).auto_scale_lr.enable
    assert not train_config(config, lines=lines).auto_scale_lr.enable
    for lines in ('', 'auto_scale_lr = dict(enable=False)'):
        with pytest.raises(cli.ConfigError, match='no auto_scale_lr = dict'):
            train_config(config, '--auto-scale-lr', lines=lines)


def start_of(cfg):
    return cfg.get('resume', False), cfg.get('load_from')


def test_resume(config):
    for name in ('dense.pth', 'epoch_1.pth'):
        Path(name).touch()
    lines = "load_from = 'dense.pth'"
    assert start_of(train_config(config, lines=lines)) == (False, 'dense.pth')
    assert start_of(train_config(config, '--resume', 'epoch_1.pth', lines=lines)
                    ) == (True, 'epoch_1.pth')
    # nothing to resume: the first start, from load_from
    for options, more in ((['--resume'], ''),
                          ([], '\nresume = True\nload_from = None')):
        cfg = train_config(config, *options, lines=lines + more)
        assert start_of(cfg) == (False, None if more else 'dense.pth')
    Path('work_dirs/small').mkdir(parents=True)
    Path('work_dirs/small/last_checkpoint').write_text('epoch_1.pth')
    assert start_of(train_config(config, '--resume', lines=lines)) == (
        True, 'epoch_1.pth')


def test_checkpoints_that_are_not_there(config):
    with pytest.raises(FileNotFoundError, match='load_from dense.pth not found'):
        train_config(config, lines="load_from = 'dense.pth'")
    with pytest.raises(FileNotFoundError, match='to resume from e.pth not found'):
        train_config(config, '--resume', 'e.pth')
    lines = "load_from = 'https://host.invalid/dense.pth'"
    assert train_config(config, lines=lines).load_from.startswith('https')


def test_keys_that_the_config_lacks(config):
    with pytest.raises(cli.ConfigError, match='has no model, optim_wrapper'):
        train_config(config, lines='del model, optim_wrapper')
    with pytest.raises(cli.ConfigError, match='has no test_evaluator'):
        cli.test_config(cli.test_parser().parse_args(
            [config('test_evaluator = None'), 'a.pth']))


@pytest.mark.parametrize('lines, words', [
    ('model = dict(', 'SyntaxError'), ('a = nothing', "NameError: name 'nothing'"),
    ("_base_ = 'gone.py'", 'gone.py'),
    ("custom_imports = dict(imports=['gone'], allow_failed_imports=False)", 'gone')])
def test_configs_that_cannot_be_read(config, lines, words):
    with pytest.raises(cli.ConfigError, match='config file small.py: ') as caught:
        train_config(config, lines=lines)
    assert words in str(caught.value)


def test_options_that_do_not_fit_the_config(config):
    with pytest.raises(cli.ConfigError, match='--cfg-options do not fit'):
        train_config(config, '--cfg-options', 'steps.5.a=1',
                     lines='steps = [dict(a=0)]')


def test_config_that_does_not_exist(tmp_path):
    with pytest.raises(FileNotFoundError, match='config file .*gone.py not found'):
        cli.load_config(str(tmp_path / 'gone.py'))


def test_test_config(config):
    Path('a.pth').touch()
    lines = "resume = True\nload_from = 'dense.pth'"
    args = cli.test_parser().parse_args([config(lines), 'a.pth', '--dump', 'p.pkl'])
    cfg = cli.test_config(args)
    assert start_of(cfg) == (False, 'a.pth')
    assert cfg.test_evaluator == [
        dict(type='AccMetric'), dict(type='DumpResults', out_file_path='p.pkl')]
    args.dump = 'p.json'
    with pytest.raises(cli.ConfigError, match=r'must name a .pkl .* got p.json'):
        cli.test_config(args)
    args.dump, args.checkpoint = None, 'b.pth'
    with pytest.raises(FileNotFoundError, match='checkpoint b.pth not found'):
        cli.test_config(args)


@pytest.mark.parametrize('spelling', ['--local-rank', '--local_rank'])
def test_local_rank(config, spelling):
    os.environ.pop('LOCAL_RANK', None)
    train_config(config, f'{spelling}=3')
    assert os.environ['LOCAL_RANK'] == '3'


def test_a_distributed_run_on_the_cpu(config, monkeypatch):
    seen = []
    monkeypatch.setattr(cli.compat, 'init_cpu_distributed',
                        lambda *args: seen.append(args) or True)
    cfg = train_config(config, '--launcher', 'pytorch',
                       lines="env_cfg = dict(dist_cfg=dict(timeout=60))")
    assert seen == [('pytorch', 60)] and cfg.launcher == 'pytorch'
    assert cfg.model_wrapper_cfg.device_ids is None


@pytest.fixture
def kinetics(repo_dir, tmp_path, monkeypatch):
    """The user's config, in a folder without Kinetics."""
    monkeypatch.chdir(tmp_path)
    return str(repo_dir / 'configs/stts/mvit_k400.py')


def test_the_users_command_without_kinetics(kinetics, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.train([kinetics])
    line = capsys.readouterr().err.strip()
    assert stop.value.code == 2 and line.count('\n') == 0
    for words in ('data/kinetics400/kinetics400_train_list_videos.txt not found',
                  'data preparation page for Kinetics-400', '--cfg-options'):
        assert words in line


def test_the_users_command_without_dense_weights(kinetics, tmp_path, capsys):
    (tmp_path / 'data/kinetics400').mkdir(parents=True)
    for split in ('train', 'val'):
        path = tmp_path / f'data/kinetics400/kinetics400_{split}_list_videos.txt'
        path.write_text('a.mp4 0\n')
    with pytest.raises(SystemExit):
        cli.train([kinetics])
    assert 'load_from checkpoints/mvit_b16_k400.pth not found' in (
        capsys.readouterr().err)
