# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""DVT's data: from official annotation files and videos to a batch for the model."""
import json

import pytest
import torch
from config_files import build, load
from mmaction.datasets.repeat_aug_dataset import repeat_pseudo_collate
from mmaction.registry import DATASETS, METRICS, MODELS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope
from tiny_run import write_clip

from mmaction_tokenreduce.datasets.transcode import TranscodeConfig, transcode
from mmaction_tokenreduce.evaluation import EpicKitchensMetric

EPIC = 'narration_id,verb_class,noun_class\nP01_01_0,96,299\nP01_01_1,5,7\n'
DIVING = json.dumps([dict(vid_name='P01_01_0', label=47),
                     dict(vid_name='P01_01_1', label=7)])
LINES = 'P01_01_0.mp4 {}\nP01_01_1.mp4 7\n'
# Annotations, what limits labels, the first label, whether clips may be mirrored.
DATA = {
    'kinetics400_16x4_motion': (LINES.format(399), (400, ), [399], True),
    'sthv2_16_motion': (LINES.format(173), (174, ), [173], False),
    'diving48_16_motion': (DIVING, (48, ), [47], True),
    'epic100_16_motion': (EPIC, (97, 300), [96, 299], True),
}


@pytest.fixture(autouse=True)
def mmaction_scope():
    with DefaultScope.overwrite_default_scope('mmaction'):
        yield


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp('videos')
    for index in range(2):
        write_clip(folder / 'source.mp4', index, frames=40)
        transcode(folder / 'source.mp4', folder / f'P01_01_{index}.mp4',
                  TranscodeConfig())
    return folder


def dataset(name, split, videos):
    cfg = load(f'configs/_base_/datasets/{name}.py')[f'{split}_dataloader']
    path = videos / name
    path.write_text(DATA[name][0])
    cfg.dataset.update(ann_file=str(path), data_prefix=dict(video=str(videos)))
    return DATASETS.build(cfg.dataset)


@pytest.mark.parametrize('name', DATA)
def test_a_training_batch(name, videos):
    _, classes, first, _ = DATA[name]
    data = dataset(name, 'train', videos)
    batch = repeat_pseudo_collate([data[0], data[1]])  # two repeats of each video
    assert [sample.gt_label.tolist() for sample in batch['data_samples'][:2]] == [
        first, first]
    blending = dict(type='MotionBlending', num_classes=classes)
    done = MODELS.build(dict(
        type='MotionDataPreprocessor', mean=[114.75] * 3, std=[57.375] * 3,
        blending=blending))(batch, training=True)
    assert done['inputs']['imgs'].shape == (4, 1, 3, 16, 224, 224)
    assert done['inputs']['motion'].shape == (4, 1, 2, 16, 56, 56)
    labels = torch.stack([sample.gt_label for sample in done['data_samples']])
    assert labels.shape == (4, sum(classes))
    torch.testing.assert_close(labels.sum(1), torch.full((4, ), float(len(classes))))


@pytest.mark.parametrize('split,views', [('val', 1), ('test', 5)])
@pytest.mark.parametrize('name', DATA)
def test_views(name, split, views, videos):
    batch = pseudo_collate([dataset(name, split, videos)[0]])
    done = MODELS.build(dict(type='MotionDataPreprocessor'))(batch)
    assert done['inputs']['imgs'].shape == (1, views, 3, 16, 224, 224)
    motion = done['inputs']['motion']
    assert motion.shape == (1, views, 2, 16, 56, 56)
    assert (motion[:, :, :, 0] == 0).all() and motion.isfinite().all()
    assert done['data_samples'][0].gt_label.tolist() == DATA[name][2]


@pytest.mark.parametrize('name', DATA)
def test_only_classes_without_sides_are_mirrored(name):
    cfg = load(f'configs/_base_/datasets/{name}.py')
    (follow, ) = (step for step in cfg.train_pipeline if step.type == 'FollowMotion')
    kinds = [step.type for step in follow.transforms]
    assert ('Flip' in kinds) == DATA[name][3]
    assert {'ColorRandAugment', 'RandomErasing'} <= set(kinds)


@pytest.mark.parametrize('name', DATA)
def test_a_missing_file_says_how_to_make_it(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = load(f'configs/_base_/datasets/{name}.py')
    tool = 'cut_epic_clips' if 'epic' in name else 'transcode_h264'
    with pytest.raises(FileNotFoundError, match=f'tools/data/{tool}.py'):
        DATASETS.build(cfg.train_dataloader.dataset)


def test_metrics():
    for name in DATA:
        cfg = load(f'configs/_base_/datasets/{name}.py')
        metric = METRICS.build(cfg.test_evaluator)
        assert isinstance(metric, EpicKitchensMetric) == ('epic' in name)


def test_verbs_and_nouns_from_file_to_accuracy(videos):
    """A small model learns a step and is tested on EPIC's own files."""
    torch.manual_seed(0)  # initial losses differ by several tenths
    model = build(Config(dict(model=dict(
        type='MMRecognizer3D',
        backbone=dict(
            type='DVTMViT', arch=dict(embed_dims=8, num_layers=2, num_heads=1,
                                      downscale_indices=[1]),
            attention='st', spatial_size=224, temporal_size=16,
            separable_pos_embed=True),
        cls_head=dict(
            type='VerbNounHead', head=dict(type='MViTHead', in_channels=16,
                                           with_cls_token=False, label_smooth_eps=0.1)),
        data_preprocessor=dict(
            type='MotionDataPreprocessor', mean=[114.75] * 3, std=[57.375] * 3,
            blending=dict(type='MotionBlending', num_classes=(97, 300)))))))
    model.init_weights()
    data = dataset('epic100_16_motion', 'train', videos)
    wrapper = build_optim_wrapper(model, dict(
        type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3)))
    log = model.train_step(repeat_pseudo_collate([data[0], data[1]]), wrapper)
    torch.testing.assert_close(log['loss'], log['verb_loss_cls'] + log['noun_loss_cls'])
    # near ln 97 + ln 300, before anything is learned
    assert log['loss'].item() == pytest.approx(4.575 + 5.704, abs=1)
    data = dataset('epic100_16_motion', 'test', videos)
    metric = METRICS.build(dict(type='EpicKitchensMetric'))
    model.eval()
    with torch.no_grad():
        for item in data:
            samples = model.test_step(pseudo_collate([item]))
            metric.process(None, [sample.to_dict() for sample in samples])
    assert samples[0].pred_score['noun'].sum().item() == pytest.approx(1, abs=1e-5)
    assert set(metric.evaluate(2)) == {
        f'acc/{task}_top{k}' for task in ('action', 'verb', 'noun') for k in (1, 5)}


# Peak of the learning rate, epochs of warm-up, where it starts, epochs in all.
SCHEDULES = {
    'dvt_sthv2': (1.6e-3, 30, 0.1, 100), 'dvt_diving48': (1.6e-3, 30, 0.1, 100),
    'dvt_epic100': (1.6e-3, 30, 0.1, 100), 'dvt_vit_30e': (1e-4, 2.5, 0.1, 30),
}


@pytest.mark.parametrize('name', SCHEDULES)
def test_warm_up_and_cosine(name):
    peak, warmup, start, epochs = SCHEDULES[name]
    cfg = load(f'configs/_base_/schedules/{name}.py')
    assert cfg.train_cfg.max_epochs == epochs
    model = torch.nn.ModuleDict(dict(blocks=torch.nn.Linear(3, 3)))
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    decays = {tuple(group['params'][0].shape): group['weight_decay']
              for group in optimizer.param_groups}
    assert decays == {(3, 3): 0.05, (3, ): 0}
    schedulers = [PARAM_SCHEDULERS.build(scheduler, default_args=dict(
        optimizer=optimizer, epoch_length=20)) for scheduler in cfg.param_scheduler]
    rates = []
    for _ in range(epochs * 20):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    rates, first = torch.tensor(rates), int(warmup * 20)
    assert rates[0].item() == pytest.approx(start * peak)
    assert rates.max().item() == pytest.approx(peak, rel=1e-3)
    assert (rates[:first].diff() > 0).all() and (rates[first:].diff() < 0).all()
    assert rates[-1] < 0.011 * peak
