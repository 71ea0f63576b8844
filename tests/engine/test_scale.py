# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Training at scale: FlexibleRunner, shards (FSDP), accumulated gradients, EMA."""
import os
import re
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope
from tiny_run import forget_runs, write_config, write_data
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.testing import assert_close

from mmaction_tokenreduce import compat
from mmaction_tokenreduce.engine import cli
from mmaction_tokenreduce.models import (
    ReducedMViT,
    ReducedSwin3D,
    ReducedTimeSformer,
    ReducedViT,
)
from mmaction_tokenreduce.models.sharding import wrap_blocks

REDUCERS = [dict(type='TemporalSelection', before=0, keep=0.5),
            dict(type='SpatialSelection', before=1, keep=0.5)]
CONFIG = f'''
_base_ = 'tiny.py'
model = dict(backbone=dict(type='ReducedMViT', reducers={REDUCERS}))
'''
FLEXIBLE = "runner_type = 'FlexibleRunner'\n"
PAGE = Path(__file__).resolve().parents[2] / 'docs/training.md'


def sharded_lines():
    """The config of docs/training.md, but for its base."""
    (block, ) = [block for block in re.findall(r'```python\n(.*?)```',
                                               PAGE.read_text(), re.S)
                 if 'FSDPStrategy' in block]
    return re.sub('_base_ = .*\n', '', block)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data')
    write_data(folder)
    return folder


@pytest.fixture
def config(tmp_path, data, monkeypatch):
    """Writes a config of the tiny run with reducers and more lines."""
    monkeypatch.chdir(tmp_path)
    write_config(tmp_path / 'tiny.py', data)

    def with_lines(name, lines):
        (tmp_path / f'{name}.py').write_text(CONFIG + lines)
        return f'{name}.py'

    forget_runs()
    yield with_lines
    forget_runs()


@pytest.fixture
def one_rank(monkeypatch):
    """The environment of torchrun with one process, and its group's end."""
    for key, value in dict(RANK='0', WORLD_SIZE='1', LOCAL_RANK='0',
                           MASTER_ADDR='127.0.0.1', MASTER_PORT='0').items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv('GLOO_SOCKET_IFNAME', 'lo')
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


class Recorder(Hook):
    """Loss of every iteration."""

    def __init__(self):
        self.losses = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append(float(outputs['loss'].detach()))


def train(path, *options):
    forget_runs()
    args = cli.train_parser().parse_args([path, '--seed', '1', *options])
    runner = cli.build_runner(cli.train_config(args), cli.SetUpDoneHook())
    recorder = Recorder()
    runner.register_hook(recorder)
    runner.train()
    return recorder.losses, runner


def test_a_flexible_runner_trains_and_resumes_as_the_plain_one(config):
    plain, _ = train(config('plain', ''), '--work-dir', 'plain')
    path = config('flexible', FLEXIBLE)
    whole, runner = train(path, '--work-dir', 'whole')
    assert type(runner).__name__ == 'FlexibleRunner'
    assert whole == plain and len(whole) == 8
    # a new best saves an epoch's checkpoint twice; mmengine stores epoch 2 then
    meta = torch.load('whole/epoch_1.pth', weights_only=True)['meta']
    assert (meta['epoch'], meta['iter']) == (1, 4)
    resumed, _ = train(path, '--work-dir', 'again', '--resume', 'whole/epoch_1.pth')
    assert resumed == whole[4:]


@pytest.mark.filterwarnings('ignore::FutureWarning', 'ignore::UserWarning',
                            'ignore::DeprecationWarning')
def test_a_sharded_run_saves_loads_and_resumes(config, one_rank):
    plain, _ = train(config('plain', ''), '--work-dir', 'plain')
    path = config('sharded', sharded_lines())
    whole, runner = train(path, '--work-dir', 'whole', '--launcher', 'pytorch')
    wrapped = [m for m in runner.model.modules()
               if isinstance(m, FullyShardedDataParallel)]
    assert len(wrapped) == 1 + 2  # the root and the blocks
    assert whole == pytest.approx(plain, rel=1e-4)
    state = torch.load('whole/epoch_1.pth', weights_only=True)['state_dict']
    want = torch.load('plain/epoch_1.pth', weights_only=True)['state_dict']
    assert_close(state, want, rtol=1e-3, atol=1e-5)
    resumed, _ = train(path, '--work-dir', 'again', '--launcher', 'pytorch',
                       '--resume', 'whole/epoch_1.pth')
    assert resumed == pytest.approx(whole[4:], rel=1e-4)
    state['backbone.blocks.1.mlp.fc1.weight'] = torch.zeros(1)
    torch.save(dict(state_dict=state), 'other.pth')
    with pytest.raises(ValueError, match=r'does not fit the model: 1 of another shape '
                                         r'\(backbone.blocks.1.mlp.fc1.weight'):
        train(path, '--launcher', 'pytorch', '--cfg-options', 'load_from=other.pth')


def free_ports(count):
    """Ports for runs one after another.

    Each meets at one of its own: at that of the first, the second could be met by what
    the first left there.
    """
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for free in sockets:
            free.bind(('127.0.0.1', 0))
        return [free.getsockname()[1] for free in sockets]


def be_rank(rank, port):
    """Set what torchrun sets in one of two processes."""
    os.environ.update(
        RANK=str(rank), WORLD_SIZE='2', LOCAL_RANK=str(rank), MASTER_ADDR='127.0.0.1',
        MASTER_PORT=str(port), GLOO_SOCKET_IFNAME='lo')
    torch.set_num_threads(1)


def start_two(function, *args):
    """Call it with rank 0 and with rank 1.

    Forked processes need not import everything again, and they end without the end of
    the interpreter, which threads of gloo do not always survive: shards keep them.
    """
    mp.start_processes(function, args, nprocs=2, start_method='fork')


def train_a_part(rank, path, ports):
    losses = []
    for port, options in zip(ports, (['--work-dir', 'whole'], [
            '--work-dir', 'again', '--resume', 'whole/epoch_1.pth']), strict=True):
        be_rank(rank, port)
        losses.append(train(path, '--launcher', 'pytorch', *options)[0])
        torch.distributed.destroy_process_group()
    torch.save(losses, f'losses_{rank}.pth')


def test_two_sharded_processes_resume_what_they_left(config):
    """Each has its part of the weights and of the optimiser's state."""
    start_two(train_a_part, config('sharded', sharded_lines()), free_ports(2))
    for rank in range(2):
        whole, resumed = torch.load(f'losses_{rank}.pth')
        assert len(whole) == 4 and resumed == whole[2:]


def run_both_tools(rank, path, ports):
    """Train and test as one of two processes, and look what is left of each."""
    for port, run, options in zip(ports, (cli.train, cli.test),
                                  ([], ['work_dirs/plain/epoch_2.pth']), strict=True):
        be_rank(rank, port)
        forget_runs()
        run([path, *options, '--launcher', 'pytorch'])
        assert not torch.distributed.is_initialized()
        threads = [name.read_text() for name in Path('/proc/self/task').glob('*/comm')]
        assert not any('gloo' in name for name in threads), threads


def test_a_run_ends_its_process_group(config):
    """A thread of gloo that outlives it can abort a process that has succeeded."""
    start_two(run_both_tools, config('plain', ''), free_ports(2))


@pytest.mark.filterwarnings('ignore::FutureWarning', 'ignore::UserWarning')
def test_a_run_leaves_the_process_group_of_others(config, one_rank):
    torch.distributed.init_process_group('gloo')
    forget_runs()
    cli.train([config('plain', ''), '--launcher', 'pytorch'])
    assert torch.distributed.is_initialized()


def test_a_run_that_fails_does_not_wait_for_the_others(config, one_rank):
    forget_runs()
    with pytest.raises(SystemExit):
        cli.train([config('plain', ''), '--launcher', 'pytorch', '--cfg-options',
                   'model.backbone.no_such=1'])
    assert torch.distributed.is_initialized()


def hosts():
    """Small hosts, with reducers that draw nothing, and the shape of their clips."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmaction'):
        yield ReducedMViT(
            arch=dict(embed_dims=8, num_layers=2, num_heads=1, downscale_indices=[1]),
            spatial_size=32, temporal_size=8, rel_pos_embed=False,
            rel_pos_zero_init=True), (8, 32, 32)
        yield ReducedSwin3D(
            arch=dict(embed_dims=16, depths=[2, 1, 1, 1], num_heads=[1, 2, 4, 8]),
            pretrained2d=False, window_size=(2, 2, 2), drop_path_rate=0.0), (4, 64, 64)
        yield ReducedTimeSformer(
            num_frames=4, img_size=32, patch_size=8, embed_dims=24, num_heads=3,
            num_transformer_layers=2), (4, 32, 32)
        yield ReducedViT(
            img_size=32, patch_size=8, embed_dims=24, depth=2, num_heads=3,
            num_frames=4, reducers=[
                dict(type='KeyframePruning', within=1, keep=0.7)]), (4, 32, 32)


def scalar(output):
    """A scalar of whatever a host returns."""
    while isinstance(output, tuple | list):
        output = output[-1]
    return getattr(output, 'tokens', output).square().mean()


def gradients(sharded):
    """By host and parameter."""
    found = {}
    for model, shape in hosts():
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.1)
        clips = torch.randn(2, 3, *shape)
        model.eval()  # without what is dropped at random
        name = type(model).__name__
        if sharded:
            rank = torch.distributed.get_rank()
            model = FullyShardedDataParallel(
                model, auto_wrap_policy=wrap_blocks, use_orig_params=True,
                device_id=torch.device('cpu'))
            clips = clips[rank:rank + 1]
        scalar(model(clips)).backward()
        if sharded:
            with FullyShardedDataParallel.summon_full_params(model, with_grads=True):
                grads = {k.replace('_fsdp_wrapped_module.', ''): p.grad.clone()
                         for k, p in model.named_parameters() if p.grad is not None}
        else:
            grads = {k: p.grad for k, p in model.named_parameters()
                     if p.grad is not None}
        found[name] = grads
    return found


def shard(rank, folder):
    os.environ['GLOO_SOCKET_IFNAME'] = 'lo'
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/meeting', rank=rank, world_size=2)
    grads = gradients(sharded=True)
    if rank == 0:
        torch.save(grads, f'{folder}/grads.pth')
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_two_shards_give_the_gradients_of_one_process(tmp_path):
    start_two(shard, str(tmp_path))
    two, one = torch.load(tmp_path / 'grads.pth'), gradients(sharded=False)
    assert len(one) == 4
    for name, want in one.items():
        assert want and any(grad.abs().max() > 0 for grad in want.values())
        assert_close(two[name], want, rtol=1e-3, atol=1e-6)


def test_the_cpu_gets_no_device_ids():
    from mmengine.config import Config
    plain = Config(dict(runner_type='FlexibleRunner'))
    compat.cpu_model_wrapper(plain)
    assert plain.strategy.type == 'DDPStrategy'
    assert plain.strategy.model_wrapper.device_ids is None
    sharded = Config(dict(runner_type='FlexibleRunner', strategy=dict(
        type='FSDPStrategy', model_wrapper=dict(auto_wrap_policy='a'))))
    compat.cpu_model_wrapper(sharded)
    assert sharded.strategy.model_wrapper == dict(auto_wrap_policy='a', device_id='cpu')


@pytest.mark.parametrize('given', ['full', dict(
    state_dict_type='FULL_STATE_DICT',
    state_dict_config=dict(type='FullStateDictConfig', rank0_only=True),
    optim_state_dict_config=dict(type='FullOptimStateDictConfig', rank0_only=True))])
def test_states_on_the_cpu_are_not_offloaded_to_it(given):
    from mmengine.config import Config
    cfg = Config(dict(runner_type='FlexibleRunner', strategy=dict(
        type='FSDPStrategy', state_dict_cfg=given)))
    compat.cpu_model_wrapper(cfg)
    assert cfg.strategy.state_dict_cfg == dict(
        state_dict_type='FULL_STATE_DICT',
        state_dict_config=dict(type='FullStateDictConfig', rank0_only=True,
                               offload_to_cpu=False),
        optim_state_dict_config=dict(type='FullOptimStateDictConfig', rank0_only=True,
                                     offload_to_cpu=False))


def test_accumulated_halves_are_the_step_of_the_whole():
    """Of ReducedViT with merges; nothing in it knows of the batch."""
    clips, steps = torch.randn(4, 3, 4, 32, 32), []
    for parts in (1, 2):
        torch.manual_seed(0)
        model = ReducedViT(
            img_size=32, patch_size=8, embed_dims=24, depth=2, num_heads=3,
            num_frames=4, reducers=[dict(type='TokenMerging', before=1, scope='frame',
                                         strategy='bipartite')])
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.1)
        start = [p.detach().clone() for p in model.parameters()]
        wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.5),
                               accumulative_counts=parts)
        wrapper.initialize_count_status(model, 0, parts)
        for index, part in enumerate(clips.chunk(parts)):
            with wrapper.optim_context(model):
                loss = model(part).square().mean()
            wrapper.update_params(loss)
            moved = any(not torch.equal(p, s) for p, s in zip(
                model.parameters(), start, strict=True))
            assert moved == (index == parts - 1)
        steps.append([p.detach() - s for p, s in zip(model.parameters(), start,
                                                     strict=True)])
    assert_close(steps[1], steps[0], rtol=1e-4, atol=1e-6)


def test_ema_weights_are_stored_and_used(config):
    path = config('averaged', "default_hooks = dict(ema=dict(type='EMAHook', "
                              'momentum=0.5))\n')
    train(path, '--work-dir', 'averaged', '--no-validate')
    stored = torch.load('averaged/epoch_2.pth', weights_only=True)
    name = 'cls_head.fc_cls.weight'
    trained = stored['ema_state_dict'][f'module.{name}']
    assert not torch.equal(stored['state_dict'][name], trained)
