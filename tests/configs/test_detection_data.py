# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""The data of action detection: what each base gives the detector."""
import json

import cv2
import numpy as np
import pytest
import torch
from config_files import load
from mmaction.registry import DATASETS, METRICS
from mmengine.registry import DefaultScope

from mmaction_tokenreduce.datasets.moving_actors import (
    MovingActorsConfig,
    write_dataset,
)

# Frames, columns of the labels.
DATA = {'ava': (16, 81), 'ava_kinetics': (16, 81), 'jhmdb': (16, 22), 'ucf24': (16, 25)}


def build(cfg, folder, root):
    """The config's datasets and metrics, with another folder for its data."""
    text = json.dumps(cfg.to_dict()).replace(root, str(folder))
    cfg = json.loads(text)
    evaluators = cfg['val_evaluator']
    evaluators = evaluators if isinstance(evaluators, list) else [evaluators]
    for loader in ('train_dataloader', 'val_dataloader'):
        for step in cfg[loader]['dataset']['pipeline']:
            if step['type'] == 'Resize':
                step['scale'] = tuple(step['scale'])
    with DefaultScope.overwrite_default_scope('mmaction'):
        return ([DATASETS.build(cfg[f'{split}_dataloader']['dataset'])
                 for split in ('train', 'val')],
                [METRICS.build(evaluator) for evaluator in evaluators])


def write_frames(folder, template, count):
    folder.mkdir(parents=True)
    image = cv2.imencode('.png', np.zeros((36, 64, 3), np.uint8))[1].tobytes()
    for number in range(1, count + 1):
        (folder / template.format(number)).write_bytes(image)


def write_ava(root, video, seconds):
    """A keyframe of a video, for training and validation."""
    folder = root / 'annotations'
    folder.mkdir(parents=True)
    for split in ('train', 'val'):
        (folder / f'ava_{split}_v2.2.csv').write_text(
            f'{video},0901,0.5,0.25,1.0,1.0,80,0\n')
        (folder / f'ava_{split}_excluded_timestamps_v2.2.csv').write_text('')
    (folder / 'ava_action_list_v2.2_for_activitynet_2019.pbtxt').write_text(
        'label {\n  name: "walk"\n  label_id: 80\n  label_type: PERSON_MOVEMENT\n}\n')
    write_frames(root / 'rawframes' / video, 'img_{:05}.jpg', 30 * seconds)


def write_tubes(root, name, classes, folder, template):
    root.mkdir()
    tube = [[[7, 32, 9, 64, 36]]]
    (root / name).write_text(json.dumps(dict(
        labels=[str(label) for label in range(classes)], nframes={'c/v': 8},
        gttubes={'c/v': {str(classes - 1): tube}}, resolution={'c/v': [36, 64]},
        train_videos=[['c/v']], test_videos=[['c/v']])))
    write_frames(root / folder / 'c/v', template, 8)


@pytest.mark.parametrize('name', DATA)
def test_a_sample_of_each_base(name, tmp_path):
    frames, columns = DATA[name]
    cfg = load(f'configs/_base_/datasets/{name}.py')
    root = tmp_path / 'set'
    if name == 'jhmdb':
        write_tubes(root, 'JHMDB-GT.json', 21, 'Frames', '{:05}.png')
    elif name == 'ucf24':
        write_tubes(root, 'UCF101v2-GT.json', 24, 'rgb-images', '{:05}.jpg')
    else:
        video = 'video_000900_000902' if name == 'ava_kinetics' else 'v'
        write_ava(root, video, 2)
    datasets, metrics = build(cfg, root, cfg.data_root)
    for dataset in datasets:
        packed = next(item for item in dataset
                      if len(item['data_samples'].gt_instances.bboxes))
        assert packed['inputs'].shape == (3, frames, 288, 512)
        instances = packed['data_samples'].gt_instances
        torch.testing.assert_close(instances.bboxes,
                                   torch.tensor([[256.0, 72, 512, 288]]))
        assert instances.labels.shape == (1, columns)
        assert instances.labels.nonzero().tolist() == [[0, columns - 1]]
    assert {metric.num_classes for metric in metrics} == {columns} == {cfg.num_classes}
    if name == 'ucf24':
        assert [len(dataset) for dataset in datasets] == [1, 8]


def test_the_moving_actors(tmp_path):
    write_dataset(tmp_path / 'set', MovingActorsConfig(num_train=2, num_val=1),
                  workers=1, progress=False)
    cfg = load('configs/_base_/datasets/moving_actors.py')
    datasets, (metric, ) = build(cfg, tmp_path / 'set', cfg.data_root)
    truth = json.loads((tmp_path / 'set/truth.json').read_text())
    for dataset in datasets:
        sample = dataset[0]['data_samples']
        assert dataset[0]['inputs'].shape == (3, 8, 96, 128)
        actors = truth[sample.video_id][str(sample.timestamp)]['actors']
        torch.testing.assert_close(
            sample.gt_instances.bboxes,
            torch.tensor([actor['boxes'][4] for actor in actors]), atol=0.1, rtol=0)
        assert [row.nonzero().flatten().tolist() for row in sample.gt_instances.labels
                ] == [actor['labels'] for actor in actors]
    assert metric.num_classes == 9 and len(metric.names) == 8


def test_no_base_mirrors_or_asks_for_proposals():
    for name in (*DATA, 'moving_actors'):
        cfg = load(f'configs/_base_/datasets/{name}.py')
        kinds = {step['type'] for step in cfg.train_pipeline}
        assert not kinds & {'Flip', 'RandomCrop', 'ColorJitter', 'RandomRescale'}
        assert 'proposal_file' not in cfg.train_dataloader.dataset
