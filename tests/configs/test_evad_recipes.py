# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""EVAD's recipe: rate and decay of every parameter, how rates move, what runs start
from, and what ablations change."""
import pytest
import torch
from config_files import EVAD, build, load, shrink_detector
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope

from mmaction_tokenreduce.engine import CheckLoadHook
from mmaction_tokenreduce.engine.hooks.check_load_hook import compare_state


@pytest.fixture(autouse=True)
def mmaction_scope():
    with DefaultScope.overwrite_default_scope('mmaction'):
        yield


def evad(name):
    return load(f'configs/evad/{name}.py')


@pytest.mark.parametrize('name,rate', [
    ('vit_base_ava', 2.5e-5), ('vit_large_ava', 1e-5),
    ('vit_base_linear_224_ava', 2.5e-5)])
def test_rates_and_decay_of_every_parameter(name, rate):
    """Stages and head 8 times as fast; 1-d parameters and the mask token do not decay.
    """
    cfg = evad(name)
    shrink_detector(cfg)
    model = build(cfg)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    assert type(wrapper.optimizer) is torch.optim.AdamW and not wrapper.clip_grad_kwargs
    groups = {id(p): group for group in wrapper.optimizer.param_groups
              for p in group['params']}
    fast = 0
    for key, parameter in model.named_parameters():
        group = groups.pop(id(parameter))
        new = key.startswith(('localizer.stages.', 'action_head.'))
        assert group['lr'] == pytest.approx(8 * rate if new else rate), key
        flat = parameter.dim() == 1 or key == 'action_head.mask_token'
        assert group['weight_decay'] == (0 if flat else 1e-4), key
        fast += new
    assert not groups and fast > 50


@pytest.mark.parametrize('name,epochs,warmup,steps', [
    ('vit_base_ava', 12, 2, (5, 8)), ('vit_base_ucf24', 4, 0.5, (2, 3)),
    ('vit_base_jhmdb', 8, 1, (5, 7))])
def test_how_rates_move(name, epochs, warmup, steps):
    cfg, length = evad(name), 20
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.5e-5)
    schedulers = [PARAM_SCHEDULERS.build(scheduler, default_args=dict(
        optimizer=optimizer, epoch_length=length)) for scheduler in cfg.param_scheduler]
    assert cfg.train_cfg.max_epochs == epochs
    for step in range(epochs * length):
        epoch = step / length
        share = 0.1**sum(epoch >= at for at in steps)
        if epoch < warmup:  # from a tenth, step by step
            share = 0.1 + 0.9 * step / (warmup * length - 1)
        got = optimizer.param_groups[0]['lr']
        assert got == pytest.approx(2.5e-5 * share, rel=1e-6), epoch
        optimizer.step()
        for scheduler in schedulers:
            if scheduler.by_epoch is False or (step + 1) % length == 0:
                scheduler.step()


@pytest.mark.parametrize('name', ['vit_base_ava', 'vit_base_linear_224_ava',
                                  'vit_large_ava', 'vit_base_jhmdb_split3'])
def test_a_run_starts_from_an_encoder(name):
    cfg = evad(name)
    shrink_detector(cfg)
    model = build(cfg)
    encoder = {key: value for key, value in model.state_dict().items()
               if key.startswith('backbone.')}
    found = compare_state(model, encoder)
    options = cfg.default_hooks.check_load.to_dict()
    options.pop('type')
    hook = CheckLoadHook(**options)
    assert found.missing and not found.unexpected and not found.reshaped
    assert all(hook.allow_missing.match(key) for key in found.missing)
    assert not hook.allow_missing.match('backbone.blocks.0.norm1.weight')


@pytest.mark.parametrize('name', EVAD)
def test_clips_and_batches(name):
    """16 RGB frames; a batch of 16 on 8 devices (ViT-L 8); one clip in a test."""
    cfg = evad(name)
    large = 'large' in name
    assert cfg.train_dataloader.batch_size * 8 == cfg.auto_scale_lr.base_batch_size
    assert cfg.auto_scale_lr.base_batch_size == (8 if large else 16)
    assert cfg.test_dataloader.batch_size == 1
    pre = cfg.model.data_preprocessor
    assert pre.mean == [0.45 * 255] * 3 and pre.std == [0.225 * 255] * 3
    side = next((int(word) for word in name.split('_') if word in ('224', '256')), 288)
    for split in ('train', 'val', 'test'):
        steps = cfg[f'{split}_dataloader'].dataset.pipeline
        assert steps[0].clip_len == cfg.model.backbone.num_frames == 16
        assert [step.scale for step in steps if step.type == 'Resize'] == [
            (1333, side)]
    head = cfg.model.action_head
    assert head.get('loss_weight', 12.0) == (6.0 if large else 12.0)
    kept = bool(cfg.model.backbone.reducers)
    if 'ext' not in name and '_224_' not in name:
        assert head.roi_extension == ((0.4, 0.2) if kept else (0.0, 0.0))


@pytest.mark.parametrize('name,allowed', [
    ('random', {'backbone.reducers'}), ('unified', {'backbone.reducers'}),
    ('all_tokens', {'backbone.return_dropped', 'action_head.context'}),
    ('depth4', {'action_head.depth'})])
def test_ablations_differ_in_one_thing(name, allowed):
    mine = evad(f'vit_base_{name}_224_ava').to_dict()
    reference = evad('vit_base_ext0_224_ava').to_dict()
    changed = set()
    for part in ('backbone', 'action_head'):
        a, b = (cfg['model'].pop(part) for cfg in (mine, reference))
        changed |= {f'{part}.{key}' for key in a.keys() | b.keys()
                    if a.get(key) != b.get(key)}
    assert changed == allowed
    assert mine == reference
