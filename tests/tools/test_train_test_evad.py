# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""tools/train.py and tools/test.py: EVAD on a few frames in AVA's format.

The data set and the metric are mmaction2's own.
"""
import re

import cv2
import numpy as np
import pytest
import torch
from forked import run_ranks
from mmengine.hooks import Hook
from tiny_run import ROOT, forget_runs

from mmaction_tokenreduce.engine import cli
from mmaction_tokenreduce.engine.user_errors import SetUpDoneHook

# mmaction2's metric about kinds of actions that a set does not have
pytestmark = pytest.mark.filterwarnings('ignore:Mean of empty slice:RuntimeWarning')

METRIC = 'mAP/overall'
CONFIG = '''
_base_ = {base!r}
model = dict(
    backbone=dict(img_size=32, embed_dims=16, num_heads=2, num_frames=8, depth=4,
                  out_indices=(0, 1, 2, 3), reducers=[
                      dict(type='KeyframePruning', within=block, keep=0.7)
                      for block in (1, 2)]),
    neck=[dict(type='KeyframePyramid'),
          dict(type='mmdet.FPN', in_channels=[16] * 4, out_channels=16, num_outs=4)],
    localizer=dict(num_proposals=6, num_stages=2, channels=16, dynamic_channels=4,
                   head=dict(num_heads=2, feedforward_channels=8)),
    action_head=dict(in_channels=16, channels=12, num_heads=2, depth=2,
                     hidden_channels=8, grid=(4, 2, 2)))
pipeline = _base_.train_pipeline
pipeline[0].update(clip_len=8, frame_interval=1)
pipeline[2].scale = (1333, 64)
data = {data!r}


def loader(name, train):
    return dict(
        _delete_=True, batch_size=2 if train else 1, num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=train),
        dataset=dict(
            type='AVADataset', ann_file=f'{{data}}/{{name}}.csv', exclude_file=None,
            label_file=f'{{data}}/map.pbtxt', data_prefix=dict(img=data), fps=4,
            timestamp_start=0, timestamp_end=4, pipeline=pipeline,
            test_mode=not train))


train_dataloader = loader('train', True)
val_dataloader = test_dataloader = loader('val', False)
val_evaluator = test_evaluator = dict(
    _delete_=True, type='AVAMetric', ann_file=f'{{data}}/val.csv', exclude_file=None,
    label_file=f'{{data}}/map.pbtxt', num_classes=81)
train_cfg = dict(max_epochs=2, val_interval=2)
default_hooks = dict(logger=dict(interval=1))
optim_wrapper = dict(optimizer=dict(lr=1e-4))
del loader, data
'''
LABELS = 'item {{\n  name: "{0}"\n  id: {1}\n}}\n'


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Videos of 16 frames, wide and high; two or three actors on each keyframe."""
    folder = tmp_path_factory.mktemp('ava')
    noise = np.random.RandomState(0)
    for split, count in (('train', 3), ('val', 3)):
        lines = []
        for index in range(count):
            video = f'{split}_{index}'
            (folder / video).mkdir()
            shape = (48, 80, 3) if index % 2 else (64, 48, 3)
            for number in range(1, 17):
                cv2.imwrite(str(folder / video / f'img_{number:05}.jpg'),
                            noise.randint(0, 256, shape, dtype=np.uint8))
            # An odd number of keyframes to test: two processes share one of them.
            for second in (1, 2)[:1 if video == 'val_2' else 2]:
                for actor in range(2 + index % 2):
                    # The first fills the frame, as boxes do before they are learned.
                    x, y = noise.uniform(0, 0.1 if actor == 0 else 0.5, 2)
                    side = 0.9 if actor == 0 else 0.4
                    for label in noise.choice([1, 5, 80], 2, replace=False):
                        lines.append(
                            f'{video},{second:04d},{x:.3f},{y:.3f},{x + side:.3f},'
                            f'{y + side:.3f},{label},{actor}\n')
        (folder / f'{split}.csv').write_text(''.join(lines))
    (folder / 'map.pbtxt').write_text(''.join(
        LABELS.format(f'action {label}', label) for label in (1, 5, 80)))
    return folder


@pytest.fixture
def config(tmp_path, data, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / 'tiny.py'
    path.write_text(CONFIG.format(base=str(ROOT / 'configs/evad/vit_base_ava.py'),
                                  data=str(data)))
    forget_runs()
    yield str(path)
    forget_runs()


class Recorder(Hook):
    """Losses of all iterations and what was measured last."""

    def __init__(self):
        self.losses, self.metrics = [], {}

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append(float(outputs['loss'].detach()))

    def after_val_epoch(self, runner, metrics=None):
        self.metrics = metrics

    def after_test_epoch(self, runner, metrics=None):
        self.metrics = metrics


def run(parser, prepare, start, *arguments):
    forget_runs()
    recorder = Recorder()
    runner = cli.build_runner(prepare(parser().parse_args(list(arguments))),
                              SetUpDoneHook())
    runner.register_hook(recorder)
    getattr(runner, start)()
    return recorder


def train(config, *options):
    return run(cli.train_parser, cli.train_config, 'train', config, '--seed', '0',
               *options)


def measure(config, checkpoint):
    return run(cli.test_parser, cli.test_config, 'test', config, checkpoint).metrics


def state_of(path):
    return torch.load(path, weights_only=True)['state_dict']


def test_train_resume_and_test(config):
    unbroken = train(config, '--work-dir', 'unbroken')
    assert len(unbroken.losses) == 6 and np.isfinite(unbroken.losses).all()
    assert unbroken.metrics[METRIC] > 0
    resumed = train(config, '--work-dir', 'resumed', '--resume', 'unbroken/epoch_1.pth')
    assert resumed.losses == unbroken.losses[3:]
    torch.testing.assert_close(state_of('resumed/epoch_2.pth'),
                               state_of('unbroken/epoch_2.pth'), rtol=0, atol=0)
    tested = measure(config, 'unbroken/epoch_2.pth')
    assert tested[METRIC] == unbroken.metrics[METRIC]


def test_amp_trains_and_tests(config):
    once = ['--cfg-options', 'train_cfg.max_epochs=1', 'train_cfg.val_interval=1']
    plain = train(config, '--work-dir', 'plain', '--no-validate', *once)
    amp = train(config, '--work-dir', 'amp', '--amp', *once)
    assert np.isfinite(amp.losses).all() and amp.losses != plain.losses
    assert METRIC in amp.metrics
    torch.testing.assert_close(torch.tensor(amp.losses[0]),
                               torch.tensor(plain.losses[0]), rtol=0.05, atol=0)


def test_two_processes_measure_what_one_does(config):
    ranks = run_ranks(
        2, ROOT / 'tools/train.py', config, '--work-dir', 'two', '--seed', '0',
        '--launcher', 'pytorch', '--cfg-options', 'train_cfg.max_epochs=1',
        'train_cfg.val_interval=1')
    assert [rank.returncode for rank in ranks] == [0, 0], ranks
    shown = float(re.findall(rf'{METRIC}: (\S+)', ranks[0].stdout)[-1])
    metric = measure(config, 'two/epoch_1.pth')[METRIC]
    assert 0 < metric == pytest.approx(shown, abs=1e-4)
