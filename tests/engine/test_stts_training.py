# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Training with selectors: sigma, resume, mixed precision, two processes."""
import pytest
import torch
from mmengine.hooks import Hook
from tiny_run import forget_runs, write_config, write_data
from torch.testing import assert_close
from two_ranks import assert_same, gradients_of_one, gradients_of_two

from mmaction_tokenreduce.engine import cli
from mmaction_tokenreduce.engine.hooks import SigmaDecayHook
from mmaction_tokenreduce.layers import PerturbedTopK, strategies
from mmaction_tokenreduce.models import ReducedMViT
from mmaction_tokenreduce.ops import perturbed_topk

REDUCERS = [dict(type='TemporalSelection', before=0, keep=0.5),
            dict(type='SpatialSelection', before=1, keep=0.5)]


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data')
    write_data(folder)
    return folder


@pytest.fixture(autouse=True)
def runs_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    forget_runs()
    yield
    forget_runs()


class Recorder(Hook):
    """Loss and sigma of every iteration, after all other hooks have acted."""

    priority = 'LOWEST'

    def __init__(self):
        self.losses, self.sigmas = [], []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append(float(outputs['loss'].detach()))
        sigmas = {float(m.sigma) for m in runner.model.modules()
                  if isinstance(m, PerturbedTopK)}
        assert len(sigmas) == 1
        self.sigmas.append(sigmas.pop())


def write_selecting_config(tmp_path, data):
    """The tiny run with selectors, and its host in the same place."""
    path = write_config(tmp_path / 'base.py', data)
    child = tmp_path / 'selecting.py'
    child.write_text(
        f"_base_ = '{path.name}'\n"
        f"model = dict(backbone=dict(type='ReducedMViT', reducers={REDUCERS}))\n"
        "default_hooks = dict(sigma_decay=dict(type='SigmaDecayHook'))\n")
    return str(child)


def run(config, *options):
    forget_runs()
    args = cli.train_parser().parse_args([config, '--seed', '1', *options])
    runner = cli.build_runner(cli.train_config(args), cli.SetUpDoneHook())
    recorder = Recorder()
    runner.register_hook(recorder)
    runner.train()
    return recorder, runner


def test_sigma_falls_linearly_and_is_right_after_resume(tmp_path, data):
    config = write_selecting_config(tmp_path, data)
    whole, runner = run(config, '--work-dir', 'whole')
    steps = len(whole.sigmas)
    assert steps == 8
    want = torch.linspace(0.1, 0.0, steps + 1)[:-1]
    assert_close(torch.tensor(whole.sigmas), want, rtol=1e-5, atol=1e-7)
    assert runner.message_hub.get_scalar('train/sigma_share').current() == (
        pytest.approx(1 / steps))
    resumed, _ = run(config, '--work-dir', 'resumed', '--resume',
                     str(tmp_path / 'whole' / 'epoch_1.pth'))
    assert resumed.sigmas == whole.sigmas[4:]
    assert resumed.losses == whole.losses[4:]  # noise, dropout and order as well


def test_amp_trains_the_selectors(tmp_path, data):
    config = write_selecting_config(tmp_path, data)
    plain, _ = run(config, '--work-dir', 'plain')
    amp, runner = run(config, '--work-dir', 'amp', '--amp')
    assert amp.losses[0] == pytest.approx(plain.losses[0], rel=0.05)
    assert amp.losses != plain.losses
    first, last = (load_state_dict(tmp_path / 'amp' / f'epoch_{epoch}.pth')
                   for epoch in (1, 2))
    names = [name for name in first if 'score_net' in name]
    assert names
    for name in names:
        assert last[name].dtype == torch.float32 and last[name].isfinite().all()
        assert not torch.equal(first[name], last[name]), name


def load_state_dict(path):
    return torch.load(path)['state_dict']


@pytest.mark.parametrize('option,message', [
    ('model.backbone.reducers.0.keep=0.1', 'keep=0.1 leaves none of 4 token frames'),
    ('model.backbone.reducers.0.keep=0', r'keep=0 is outside (0, 1]'),
    ('model.backbone.reducers.1.before=9', 'before=9: allowed are 0 to 1'),
])
def test_a_selector_that_does_not_fit_ends_in_one_line(tmp_path, data, capsys, option,
                                                       message):
    config = write_selecting_config(tmp_path, data)
    with pytest.raises(SystemExit) as stop:
        cli.train([config, '--cfg-options', option])
    lines = [line for line in capsys.readouterr().err.splitlines()
             if line.startswith('error:')]
    assert stop.value.code == 2 and len(lines) == 1 and message in lines[0]


def test_sigma_can_reach_zero_earlier():
    with pytest.raises(ValueError, match=r'end=0 is outside \(0, 1\]'):
        SigmaDecayHook(end=0)
    model = PerturbedTopK(sigma=0.4)

    class Runner:
        iter, max_iters = 3, 10
        message_hub = type('Hub', (), dict(update_scalar=lambda *args: None))()

    Runner.model = model
    SigmaDecayHook(end=0.5).before_train_iter(Runner, 0)
    assert float(model.sigma) == pytest.approx(0.4 * 0.4)
    Runner.iter = 7
    SigmaDecayHook(end=0.5).before_train_iter(Runner, 0)
    assert float(model.sigma) == 0


class Loss(ReducedMViT):
    """Clips to the mean of a loss of each."""

    def forward(self, clips):
        return super().forward(clips)[-1][1].square().sum(1).mean()


def given_noise(first, count):
    """Perturbation whose noise depends on a clip's number in the joined batch only."""

    def perturb(scores, k, sigma, num_samples, gradient):
        rows = len(scores) // count  # 1 for frames, one a frame for regions
        noise = torch.cat([
            torch.randn(rows, 40, scores.shape[1],
                        generator=torch.Generator().manual_seed(first + i))
            for i in range(count)])
        return perturbed_topk(scores, k, sigma, noise=noise, gradient=gradient)

    return perturb


def make_selecting(first, count):
    strategies.perturbed_topk = given_noise(first, count)
    torch.manual_seed(0)
    model = Loss(
        arch=dict(embed_dims=8, num_layers=2, num_heads=1, downscale_indices=[1]),
        spatial_size=32, temporal_size=8, rel_pos_embed=False, reducers=REDUCERS)
    model.init_weights()
    return model.train()


def test_two_processes_give_the_gradients_of_one(tmp_path, monkeypatch):
    clips = torch.randn(4, 3, 8, 32, 32)
    two = gradients_of_two(make_selecting, clips, tmp_path)
    monkeypatch.setattr(strategies, 'perturbed_topk', perturbed_topk)  # undone after
    one = gradients_of_one(make_selecting, clips)
    assert any('score_net' in name for name in one)
    # zero but for rounding: normalisation takes a common shift out
    assert_same(one, two, but_for='score_net.head.4.bias')
