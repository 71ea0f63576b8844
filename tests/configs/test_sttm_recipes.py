# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What configs/sttm and docs/sttm.md promise: data, schedule, weights, recipes."""
from functools import cache

import pytest
import torch
from config_files import ROOT, build, load, shrink
from mmaction.registry import TRANSFORMS
from mmaction.structures import ActionDataSample
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope
from tiny_run import write_clip

from mmaction_tokenreduce.engine.hooks.check_load_hook import compare_state
from mmaction_tokenreduce.layers import TokenMerging

STTM = sorted(path.stem for path in (ROOT / 'configs/sttm').glob('*.py'))
SPLITS = ('train', 'val', 'test')


@pytest.fixture(autouse=True)
def mmaction_scope():
    with DefaultScope.overwrite_default_scope('mmaction'):
        yield


def sttm(name):
    return load(f'configs/sttm/{name}.py')


@cache
def dense_state(model):
    """Weights of a small dense model of 8 frames, without its classifier."""
    cfg = sttm(f'{model}_dense_k400')
    shrink(cfg)
    return {name: value for name, value in build(cfg).state_dict().items()
            if not name.startswith('cls_head.')}


def mismatch(name, model, **check_load):
    """How a config differs from the dense weights, less what it lets differ."""
    cfg = sttm(name)
    shrink(cfg)
    options = dict(cfg.default_hooks.check_load, **check_load)
    found = compare_state(build(cfg), dense_state(model))
    return found._replace(
        missing=[key for key in found.missing
                 if not key.startswith(tuple(options['allow_missing']))],
        reshaped=[entry for entry in found.reshaped
                  if not entry[0].startswith(tuple(options.get('allow_reshaped', ())))])


@pytest.mark.parametrize('name', STTM)
def test_dense_weights_fit_every_config(name):
    """Only merges and the classifier start anew, and embeddings of more frames."""
    model = next(m for m in ('timesformer', 'vit_base', 'vit_small')
                 if name.startswith(m))
    assert not any(mismatch(name, model))


@pytest.mark.parametrize('name', ['timesformer_tome_k400', 'vit_base_tome_k400'])
def test_bipartite_matching_needs_nothing_but_the_dense_weights(name):
    found = mismatch(name, name.removesuffix('_tome_k400'), allow_missing=['cls_head.'])
    assert not any(found)


def test_what_starts_anew_is_little():
    cfg = sttm('timesformer_11f_k400')
    shrink(cfg)
    found = compare_state(build(cfg), dense_state('timesformer'))
    assert {key.partition('.')[0] for key in found.missing} == {'backbone', 'cls_head'}
    assert {key.split('.')[3] for key in found.missing
            if key.startswith('backbone')} == {'phi', 'fuse'}
    assert [key for key, _, _ in found.reshaped] == ['backbone.time_embed']
    model = build(cfg)
    model.init_weights()
    assert not model.backbone.time_embed.any()


@pytest.fixture(scope='module')
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp('video') / 'clip.mp4'
    write_clip(path, 0, frames=40)
    return str(path)


@pytest.mark.parametrize('name,frames', [
    ('timesformer_k400', 8), ('timesformer_ssv2', 8), ('timesformer_11f_k400', 11),
    ('vit_base_11f_ssv2', 11), ('vit_small_13f_k400', 13), ('vit_small_13f_ssv2', 13)])
def test_pipelines(name, frames, video):
    """One clip; one crop in training and validation, three in a test."""
    cfg = sttm(name)
    classes = 400 if name.endswith('k400') else 174
    assert cfg.model.cls_head.num_classes == classes
    for split, views in zip(SPLITS, (1, 1, 3), strict=True):
        dataset = cfg[f'{split}_dataloader'].dataset
        assert dataset.num_classes == classes
        # sides are part of some classes of Something-Something
        flips = any(step['type'] == 'Flip' for step in dataset.pipeline)
        assert flips == (split == 'train' and classes == 400)
        steps = Compose([TRANSFORMS.build(step) for step in dataset.pipeline])
        packed = steps(dict(filename=video, label=3, start_index=0, modality='RGB'))
        assert packed['inputs'].shape == (views, 3, frames, 224, 224)
        assert packed['data_samples'].gt_label.item() == 3


def sampled(name, split, total):
    """The frames that a config takes of a video of ``total`` frames."""
    step = sttm(name)[f'{split}_dataloader'].dataset.pipeline[1]
    results = TRANSFORMS.build(step)(dict(total_frames=total, start_index=0,
                                          avg_fps=25.0))
    return torch.as_tensor(results['frame_inds'])


@pytest.mark.parametrize('name,frames,step', [
    ('timesformer_k400', 8, 32), ('timesformer_11f_k400', 11, 23),
    ('vit_base_11f_k400', 11, 23), ('vit_small_13f_k400', 13, 19)])
@pytest.mark.parametrize('split', SPLITS)
def test_more_frames_span_the_same_time(name, frames, step, split):
    picked = sampled(name, split, 1000)
    assert len(picked) == frames and (picked.diff() == step).all()
    assert 8 * 32 - frames < frames * step <= 8 * 32


@pytest.mark.parametrize('name,frames', [
    ('timesformer_ssv2', 8), ('timesformer_11f_ssv2', 11), ('vit_small_13f_ssv2', 13)])
@pytest.mark.parametrize('split', SPLITS)
def test_frames_are_spread_over_the_video(name, frames, split):
    """One from each of as many equal parts."""
    total = 20 * frames + 1
    picked = sampled(name, split, total)
    assert len(picked) == frames
    parts = torch.arange(frames) * 20
    assert (picked >= parts).all() and (picked <= parts + 20).all()


@pytest.mark.parametrize('name,epochs', [
    ('timesformer_k400', 30), ('vit_base_dense_k400', 30), ('vit_small_13f_ssv2', 30),
    ('timesformer_r02_ssv2', 15), ('vit_base_no_filter_ssv2', 15)])
def test_rates_and_decay_of_every_parameter(name, epochs):
    """AdamW, 0.005 that falls linearly to 0, decay 1e-4 but for the embeddings."""
    cfg = sttm(name)
    shrink(cfg)
    model = build(cfg)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    assert type(optimizer) is torch.optim.AdamW
    names = {id(p): name for name, p in model.named_parameters()}
    seen = set()
    for group in optimizer.param_groups:
        assert (group['lr'], group['betas'][0]) == (0.005, 0.9)
        for parameter in group['params']:
            key = names[id(parameter)]
            embedding = key.endswith(('cls_token', 'pos_embed', 'time_embed'))
            assert group['weight_decay'] == (0 if embedding else 1e-4), key
            seen.add(key)
    assert seen == set(names.values())
    rates = course(cfg, epoch_length=20)
    assert len(rates) == epochs * 20
    expected = torch.linspace(0.005, 0, len(rates), dtype=torch.float64)
    torch.testing.assert_close(rates, expected, atol=1e-8, rtol=1e-6)


def course(cfg, epoch_length):
    """The learning rate in each step of a run."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))],
                                lr=cfg.optim_wrapper.optimizer.lr)
    schedulers = [PARAM_SCHEDULERS.build(scheduler, default_args=dict(
        optimizer=optimizer, epoch_length=epoch_length))
        for scheduler in cfg.param_scheduler]
    rates = []
    for _ in range(cfg.train_cfg.max_epochs * epoch_length):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return torch.tensor(rates, dtype=torch.float64)


def recipe(word, folder):
    """The config in docs/sttm.md that has a word in it, from the checkout's root."""
    blocks = (ROOT / 'docs' / 'sttm.md').read_text().split('```python\n')[1:]
    found = [block.split('```')[0] for block in blocks if word in block.split('```')[0]]
    assert len(found) == 1, word
    path = folder / 'mine.py'
    path.write_text(found[0].replace("'configs/", f"'{ROOT.as_posix()}/configs/"))
    return Config.fromfile(path)


def run(model, frames, size):
    """The scores of two clips."""
    clips = [torch.randint(0, 256, (1, 3, frames, size, size), dtype=torch.uint8)
             for _ in range(2)]
    model.eval()
    with torch.no_grad():
        results = model.test_step(dict(inputs=clips, data_samples=[
            ActionDataSample().set_gt_label(label) for label in (1, 3)]))
    return torch.stack([result.pred_score for result in results])


def test_timesformer_of_mmaction2_with_merges(tmp_path):
    """Its own optimiser trains a step; every parameter of the merges moves."""
    cfg = recipe('timesformer_divST', tmp_path)
    # so that a step shows, and shows a gradient
    cfg.optim_wrapper.optimizer.update(lr=1.0, weight_decay=0.0)
    cfg.model.backbone.update(pretrained=None, embed_dims=16, num_heads=2, img_size=64)
    cfg.model.cls_head.in_channels = 16
    model = build(cfg)
    model.init_weights()
    merges = [m for m in model.modules() if isinstance(m, TokenMerging)]
    assert [merge.scope for merge in merges] == ['frame', 'clip']
    before = [p.detach().clone() for merge in merges for p in merge.parameters()]
    clips = [torch.randint(0, 256, (1, 3, 8, 64, 64), dtype=torch.uint8)
             for _ in range(2)]
    labels = [ActionDataSample().set_gt_label(label) for label in (1, 3)]
    model.train()
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    log = model.train_step(dict(inputs=clips, data_samples=labels), wrapper)
    assert log['loss'].isfinite() and len(before) == 8
    after = [p for merge in merges for p in merge.parameters()]
    assert not any(torch.equal(p, q) for p, q in zip(after, before, strict=True))
    scores = run(model, 8, 64)
    torch.testing.assert_close(scores.sum(1), torch.ones(2))


def test_video_mae_of_mmaction2_merged_without_training(tmp_path):
    """Its weights fit as they are; fewer tokens reach the last block."""
    cfg = recipe('videomae', tmp_path)
    small = dict(img_size=64, embed_dims=16, num_heads=2)
    cfg.model.backbone.update(small)
    cfg.model.cls_head.in_channels = 16
    model = build(cfg)
    cfg.model.backbone.pop('reducers')
    cfg.model.backbone.type = 'VisionTransformer'
    dense = build(cfg)
    dense.init_weights()
    model.load_state_dict(dense.state_dict(), strict=True)
    lengths = []
    model.backbone.blocks[-1].register_forward_pre_hook(
        lambda block, args: lengths.append(args[0].shape[1]))
    scores = run(model, 16, 64)
    torch.testing.assert_close(scores.sum(1), torch.ones(2))
    assert lengths == [8 * 8]  # of 8 token frames of 4x4 places


def test_sgd_in_place_of_adamw(tmp_path):
    cfg = recipe('SGD', tmp_path)
    shrink(cfg)
    optimizer = build_optim_wrapper(build(cfg), cfg.optim_wrapper).optimizer
    assert type(optimizer) is torch.optim.SGD
    assert optimizer.defaults['lr'] == 0.005 and optimizer.defaults['momentum'] == 0.9
