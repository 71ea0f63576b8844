# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""The data of configs: every pipeline runs on a video and gives the views it should."""
import pytest
from config_files import load
from mmaction.registry import TRANSFORMS
from mmcv.transforms import Compose
from mmengine.registry import DefaultScope
from tiny_run import write_clip

# Frames of a clip, clips and crops in a test, classes.
DATA = {
    'kinetics400_16x4': (16, 5, 1, 400),
    'kinetics400_32x2': (32, 4, 3, 400),
    'sthv2_32x2': (32, 1, 3, 174),
}


@pytest.fixture(scope='module')
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp('video') / 'clip.mp4'
    write_clip(path, 0, frames=40)
    return str(path)


def run(pipeline, video):
    """Packed inputs."""
    with DefaultScope.overwrite_default_scope('mmaction'):
        steps = Compose([TRANSFORMS.build(step) for step in pipeline])
    return steps(dict(filename=video, label=3, start_index=0, modality='RGB'))


@pytest.mark.parametrize('name', DATA)
def test_pipelines(name, video):
    frames, clips, crops, _ = DATA[name]
    cfg = load(f'configs/_base_/datasets/{name}.py')
    for split, views in (('train', 1), ('val', 1), ('test', clips * crops)):
        packed = run(cfg[f'{split}_dataloader'].dataset.pipeline, video)
        assert packed['inputs'].shape == (views, 3, frames, 224, 224)
        assert packed['data_samples'].gt_label.item() == 3


@pytest.mark.parametrize('name', DATA)
def test_labels_stay_right(name):
    """As many classes as the dataset has; flips only where no class names a side."""
    *_, classes = DATA[name]
    cfg = load(f'configs/_base_/datasets/{name}.py')
    for split in ('train', 'val', 'test'):
        assert cfg[f'{split}_dataloader'].dataset.num_classes == classes
    flips = [step for step in cfg.train_pipeline if step['type'] == 'Flip']
    assert bool(flips) == (classes == 400)


def test_mmaction2s_own_recipe_of_mvit_runs(video):
    """Whole, where pytorchvideo cannot be imported (compat)."""
    cfg = load('configs/mix/mvit_small_stts_k400.py')
    pipeline = cfg.train_dataloader.dataset.pipeline
    assert 'PytorchVideoWrapper' in {step['type'] for step in pipeline}
    assert run(pipeline, video)['inputs'].shape == (1, 3, 16, 224, 224)
