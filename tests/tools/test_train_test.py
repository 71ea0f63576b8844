# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""tools/train.py and tools/test.py: whole runs of a tiny model on tiny clips."""
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from forked import run_ranks, run_script
from mmengine.hooks import Hook
from tiny_run import NUM_CLASSES, ROOT, forget_runs, write_config, write_data

from mmaction_tokenreduce.engine import CPUAmpOptimWrapper, cli
from mmaction_tokenreduce.engine.user_errors import TRACEBACK_VARIABLE, SetUpDoneHook


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data')
    write_data(folder)
    return folder


@pytest.fixture
def config(tmp_path, data, monkeypatch):
    """A config, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(TRACEBACK_VARIABLE, raising=False)
    return str(write_config(tmp_path / 'tiny.py', data))


@pytest.fixture(autouse=True)
def runs_apart():
    forget_runs()
    yield
    forget_runs()


class Recorder(Hook):
    """Losses of all iterations, the optimiser wrapper, dtypes of scores in training."""

    def __init__(self):
        self.losses, self.dtypes, self.wrapper = [], set(), None

    def before_train(self, runner):
        self.wrapper = runner.optim_wrapper
        runner.model.cls_head.fc_cls.register_forward_hook(self.note_dtype)

    def note_dtype(self, module, inputs, output):
        if module.training:
            self.dtypes.add(output.dtype)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append(float(outputs['loss'].detach()))


def run_train(config, *options):
    """A training run in this process, as cli.train does it."""
    forget_runs()  # mmengine keeps runs by name and second
    recorder = Recorder()
    args = cli.train_parser().parse_args([config, *options])
    runner = cli.build_runner(cli.train_config(args), SetUpDoneHook())
    runner.register_hook(recorder)
    runner.train()
    return recorder


def state_of(path):
    return torch.load(path, weights_only=True)['state_dict']


def run_tool(*command, **environment):
    """A tool in a process of its own; stdout and stderr as text."""
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHON': sys.executable,
                   **environment}
    environment.pop('PYTHONPATH', None)
    return subprocess.run(list(map(str, command)), capture_output=True, text=True,
                          env=environment, timeout=120, check=False)


def printed(pattern, text):
    return float(re.findall(pattern + r': (\S+)', text)[-1])


def test_resume_at_an_epoch_gives_the_losses_of_an_unbroken_run(config):
    # without --seed: the resumed run draws another seed, and another order of samples
    unbroken = run_train(config, '--work-dir', 'unbroken')
    assert len(unbroken.losses) == 8
    checkpoint = torch.load('unbroken/epoch_1.pth', weights_only=True)
    assert len(checkpoint['random_state']['ranks']) == 1
    resumed = run_train(config, '--work-dir', 'resumed',
                        '--resume', 'unbroken/epoch_1.pth')
    assert resumed.losses == unbroken.losses[4:]
    torch.testing.assert_close(state_of('resumed/epoch_2.pth'),
                               state_of('unbroken/epoch_2.pth'), rtol=0, atol=0)


def test_resume_in_the_work_dir_after_a_stop(config):
    unbroken = run_train(config, '--work-dir', 'unbroken', '--seed', '3')
    shutil.copytree('unbroken', 'stopped')
    Path('stopped/last_checkpoint').write_text('stopped/epoch_1.pth')
    Path('stopped/epoch_2.pth').unlink()
    resumed = run_train(config, '--work-dir', 'stopped', '--resume', '--no-validate')
    assert resumed.losses == unbroken.losses[4:]  # validated in one run, not the other
    assert Path('stopped/epoch_2.pth').is_file()


def test_seed_and_resume_without_a_checkpoint(config):
    first = run_train(config, '--work-dir', 'a', '--seed', '7', '--no-validate')
    again = run_train(config, '--work-dir', 'b', '--seed', '7', '--no-validate',
                      '--resume')  # starts anew
    other = run_train(config, '--work-dir', 'c', '--seed', '8', '--no-validate')
    assert first.losses == again.losses != other.losses
    assert not list(Path('a').glob('best_*'))


def test_amp_computes_in_bfloat16(config):
    plain = run_train(config, '--work-dir', 'plain', '--seed', '0')
    amp = run_train(config, '--work-dir', 'amp', '--seed', '0', '--amp')
    assert isinstance(amp.wrapper, CPUAmpOptimWrapper)
    assert (plain.dtypes, amp.dtypes) == ({torch.float32}, {torch.bfloat16})
    torch.testing.assert_close(torch.tensor(amp.losses[0]),
                               torch.tensor(plain.losses[0]), rtol=0.05, atol=0)
    assert amp.losses != plain.losses and all(map(torch.isfinite, map(
        torch.tensor, amp.losses)))
    start, end = state_of('amp/epoch_1.pth'), state_of('amp/epoch_2.pth')
    assert all(value.dtype == torch.float32 for value in end.values())
    name = 'cls_head.fc_cls.weight'
    assert not torch.equal(start[name], end[name])


def test_auto_scale_lr_multiplies_the_rate(config):
    options = ['--no-validate', '--cfg-options', 'train_cfg.max_epochs=1',
               'param_scheduler=None', 'auto_scale_lr.base_batch_size=8']
    plain = run_train(config, *options)
    scaled = run_train(config, '--auto-scale-lr', *options)
    assert plain.wrapper.get_lr()['lr'] == [1e-3]
    assert scaled.wrapper.get_lr()['lr'] == [0.25e-3]  # 2 clips in place of 8


def test_fine_tuning_a_model_of_other_classes(config, data, tmp_path):
    run_train(config, '--work-dir', 'old', '--no-validate',
              '--cfg-options', 'train_cfg.max_epochs=1')
    wider = str(write_config(tmp_path / 'wider.py', data, num_classes=5))
    with pytest.raises(ValueError, match=r'old/epoch_1.pth .*\[3, 16\].*\[5, 16\]'):
        run_train(wider, '--cfg-options', 'load_from=old/epoch_1.pth')
    tuned = run_train(
        wider, '--no-validate', '--cfg-options', 'load_from=old/epoch_1.pth',
        'default_hooks.check_load.allow_reshaped=[cls_head.fc_cls]',
        'optim_wrapper.optimizer.lr=0.0')
    assert len(tuned.losses) == 8
    new = state_of('work_dirs/wider/epoch_2.pth')
    old = state_of('old/epoch_1.pth')
    assert new['cls_head.fc_cls.weight'].shape == (5, 16)
    name = 'backbone.blocks.1.attn.qkv.weight'
    torch.testing.assert_close(new[name], old[name], rtol=0, atol=0)


def test_command_lines_of_train_and_test(config, data):
    trained = run_script(ROOT / 'tools/train.py', config, '--seed', '0')
    assert trained.returncode == 0, trained.stderr
    work_dir = Path('work_dirs') / Path(config).stem
    assert (work_dir / 'epoch_2.pth').is_file()

    tested = run_tool(sys.executable, ROOT / 'tools/test.py', config,
                      work_dir / 'epoch_2.pth', '--work-dir', 'test', '--dump',
                      'out/scores.pkl')
    assert tested.returncode == 0, tested.stderr
    top1 = printed('acc/top1', tested.stdout)
    assert top1 == printed('acc/top1', trained.stdout)  # the last validation
    with open('out/scores.pkl', 'rb') as file:
        samples = pickle.load(file)
    labels = [int(line.split()[-1]) for line in (data / 'val.txt').open()]
    assert [int(sample['gt_label']) for sample in samples] == labels
    scores = torch.stack([sample['pred_score'] for sample in samples])
    assert scores.shape == (3, NUM_CLASSES)
    hits = (scores.argmax(dim=1) == torch.tensor(labels)).float()
    assert abs(hits.mean().item() - top1) < 1e-4


def losses_logged(work_dir):
    """The loss of every iteration as the run's one JSON log has it."""
    logs = list(Path(work_dir).glob('*/vis_data/scalars.json'))
    assert len(logs) == 1
    lines = map(json.loads, logs[0].read_text().splitlines())
    return [line['loss'] for line in lines if 'loss' in line]


def test_two_processes_on_the_cpu(config):
    script = ROOT / 'tools/dist_train.sh'
    options = ['--seed', '5', '--diff-rank-seed', '--cfg-options',
               'log_processor.window_size=1']
    done = run_tool('bash', script, config, 2, '--work-dir', 'two', *options)
    assert done.returncode == 0, done.stderr
    assert len(losses_logged('two')) == 4  # two epochs of 8 clips, in batches of 2 x 2
    first, second = torch.load('two/epoch_1.pth', weights_only=True)['random_state'][
        'ranks']
    assert not torch.equal(first['torch'], second['torch'])
    # test_dist_scripts says that the scripts start processes so
    resumed = run_ranks(2, ROOT / 'tools/train.py', config, '--work-dir', 'again',
                        *options, '--resume', 'two/epoch_1.pth', '--launcher',
                        'pytorch')
    assert [rank.returncode for rank in resumed] == [0, 0], resumed
    assert losses_logged('again') == losses_logged('two')[2:]
    torch.testing.assert_close(state_of('again/epoch_2.pth'),
                               state_of('two/epoch_2.pth'), rtol=0, atol=0)

    tested = run_ranks(2, ROOT / 'tools/test.py', config, 'two/epoch_2.pth',
                       '--launcher', 'pytorch')
    assert [rank.returncode for rank in tested] == [0, 0], tested
    assert printed('acc/top1', tested[0].stdout) == printed('acc/top1', done.stdout)


def test_a_mistake_in_a_process_of_its_own():
    ended = run_tool(sys.executable, ROOT / 'tools/train.py', 'configs/none.py')
    assert ended.returncode == 2
    assert ended.stderr == 'error: config file configs/none.py not found\n'


def mistake_of(capfd, tool, *options):
    """What a tool writes to stderr, ending with status 2."""
    with pytest.raises(SystemExit) as ended:
        tool([str(option) for option in options])
    assert ended.value.code == 2
    return capfd.readouterr().err


@pytest.mark.parametrize('options, words', [
    (['train_dataloader.dataset.ann_file=data/kinetics400/train.txt'],
     'annotation file data/kinetics400/train.txt not found .*Kinetics-400'),
    (['train_dataloader.dataset.data_prefix.video=clips'],
     'folder of the videos clips not found'),
    (['train_dataloader.dataset.num_classes=2'], r"train.txt line 3: '.* has label 2"),
    (['model.backbone.spatail_size=32'], "unexpected keyword argument 'spatail_size'"),
    (['model.backbone.type=MVit'], 'MVit is not in the mmaction::model registry'),
    (['optim_wrapper.optimizer.type=AdamX'], 'AdamX is not a registered optimiser'),
    (['load_from=dense.pth'], 'load_from dense.pth not found'),
    (['load_from=CONFIG'], 'checkpoint .* cannot be read'),
    (['load_from=other.pth'], r'other.pth does not fit the model: .*\d+ missing'),
])
def test_mistakes_in_one_line(config, capfd, options, words):
    torch.save(dict(state_dict={'backbone.a': torch.zeros(1)}), 'other.pth')
    options = [option.replace('CONFIG', config) for option in options]
    line = mistake_of(capfd, cli.train, config, '--cfg-options', *options)
    assert re.fullmatch(f'error: .*{words}.*\n', line)


@pytest.mark.parametrize('text, words', [
    ('{name}\n', r'bad.txt line 1: .* has no label'),
    ('{name} 0\nempty.mp4 1\n', r'video .*empty.mp4 cannot be read: .*0 bytes'),
    ('{name} 0\njunk.mp4 1\n', r'video .*junk.mp4 cannot be read: corrupt')])
def test_faults_of_the_data_in_one_line(config, data, capfd, text, words):
    shutil.copy(data / 'train 0.mp4', 'good.mp4')
    Path('empty.mp4').touch()
    Path('junk.mp4').write_bytes(b'no video ' * 50)
    Path('bad.txt').write_text(text.format(name='good.mp4'))
    stderr = mistake_of(
        capfd, cli.train, config, '--cfg-options',
        'train_dataloader.dataset.ann_file=bad.txt',
        'train_dataloader.dataset.data_prefix.video=.')
    # decoders of their own accord write about a corrupt file
    lines = [line for line in stderr.splitlines() if line.startswith('error: ')]
    assert len(lines) == 1 and re.search(words, lines[0])
    if 'junk' not in text:
        assert stderr == lines[0] + '\n'


def test_mistakes_of_the_options_in_one_line(config, capfd):
    assert mistake_of(capfd, cli.train, config, '--auto-scale-lr') == (
        f'error: --auto-scale-lr: config file {config} has no auto_scale_lr = '
        'dict(base_batch_size=N), the batch size its learning rate is for\n')
    assert mistake_of(capfd, cli.test, config, 'epoch_9.pth') == (
        'error: checkpoint epoch_9.pth not found\n')


def test_a_checkpoint_without_reducers_is_not_tested(config, capfd):
    torch.save(dict(state_dict={}), 'nothing.pth')
    line = mistake_of(capfd, cli.test, config, 'nothing.pth')
    assert re.fullmatch(
        r'error: checkpoint nothing.pth does not fit .* missing .*\n', line)


def test_a_bug_keeps_its_traceback(config, monkeypatch):
    def broken(*args, **kwargs):
        return len(None)

    monkeypatch.setattr('mmaction.models.MViTHead.forward', broken)
    with pytest.raises(TypeError, match="'NoneType' has no len"):
        cli.train([config])


def write_fake(name, folder):
    """A command that prints its arguments, one a line."""
    path = folder / name
    path.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\necho MASTER_PORT=$MASTER_PORT\n')
    path.chmod(0o755)
    return path


def between(arguments, first, last):
    return arguments[arguments.index(first) + 1:arguments.index(last)]


def test_slurm_scripts(tmp_path):
    write_fake('srun', tmp_path)
    path = f'{tmp_path}:{os.environ["PATH"]}'
    script = ROOT / 'tools/slurm_train.sh'
    done = run_tool('bash', script, 'gpu', 'job', 'a b.py', 'runs/x', '--amp',
                    PATH=path, GPUS='4', SRUN_ARGS='--time 10', PYTHON='py')
    lines = done.stdout.splitlines()
    assert lines[:2] == ['--partition', 'gpu']
    expected = {'--job-name': 'job', '--ntasks': '4', '--ntasks-per-node': '4',
                '--gres': 'gpu:4', '--time': '10'}
    for option, value in expected.items():
        assert lines[lines.index(option) + 1] == value
    assert lines[lines.index('py'):-1] == [
        'py', '-u', f'{ROOT}/tools/train.py', 'a b.py', '--work-dir', 'runs/x', '--amp',
        '--launcher', 'slurm']
    assert re.fullmatch(r'MASTER_PORT=\d{5}', lines[-1])

    done = run_tool('bash', script, 'gpu', 'job', 'a.py', '--amp', PATH=path)
    assert '--work-dir' not in done.stdout and 'gpu:8' in done.stdout
    done = run_tool('bash', ROOT / 'tools/slurm_test.sh', 'gpu', 'job', 'a.py', 'a.pth',
                    '--dump', 'p.pkl', PATH=path, PYTHON='py', MASTER_PORT='29999')
    lines = done.stdout.splitlines()
    assert lines[lines.index('py') + 2:] == [
        f'{ROOT}/tools/test.py', 'a.py', 'a.pth', '--dump', 'p.pkl', '--launcher',
        'slurm', 'MASTER_PORT=29999']


def test_dist_scripts(tmp_path):
    python = write_fake('python', tmp_path)
    script = ROOT / 'tools/dist_train.sh'
    done = run_tool('bash', script, 'a b.py', '4', '--amp', PYTHON=python)
    assert done.stdout.splitlines()[:-1] == [
        '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '4',
        f'{ROOT}/tools/train.py', 'a b.py', '--amp', '--launcher', 'pytorch']
    done = run_tool('bash', script, 'a.py', '8', PYTHON=python, NNODES='2',
                    NODE_RANK='1', MASTER_ADDR='host', PORT='29511')
    assert between(done.stdout.splitlines(), 'torch.distributed.run',
                   '--nproc_per_node') == [
        '--nnodes', '2', '--node_rank', '1', '--master_addr', 'host', '--master_port',
        '29511']
    done = run_tool('bash', ROOT / 'tools/dist_test.sh', 'a.py', 'a.pth', '2', '--dump',
                    'p.pkl', PYTHON=python, PORT='29512')
    lines = done.stdout.splitlines()
    assert lines[lines.index('--master_port') + 1] == '29512'
    assert lines[lines.index(f'{ROOT}/tools/test.py') + 1:-1] == [
        'a.py', 'a.pth', '--dump', 'p.pkl', '--launcher', 'pytorch']


@pytest.mark.parametrize('command, words', [
    (['dist_train.sh', 'a.py'], 'usage: .* CONFIG GPUS'),
    (['dist_train.sh', 'a.py', '--amp'], "GPUS must be a number .* '--amp'"),
    (['dist_test.sh', 'a.py', '2'], 'usage: .* CONFIG CHECKPOINT GPUS'),
    (['slurm_train.sh', 'gpu', 'a.py'], 'usage: .* PARTITION JOB_NAME CONFIG'),
    (['slurm_test.sh', 'gpu', 'job', 'a.py'], 'usage: .* CONFIG CHECKPOINT')])
def test_mistakes_of_scripts(command, words):
    ended = run_tool('bash', ROOT / 'tools' / command[0], *command[1:])
    assert ended.returncode == 2
    assert re.search(words, ended.stderr) and ended.stderr.count('\n') == 1
