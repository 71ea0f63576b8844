# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What the configs of DVT start from, and that pipelines fit their models."""
import pytest
from config_files import ROOT, build, load, shrink
from mmaction.registry import TRANSFORMS
from mmengine.registry import DefaultScope

from mmaction_tokenreduce.engine import CheckLoadHook
from mmaction_tokenreduce.engine.hooks.check_load_hook import compare_state

DVT = sorted(path.stem for path in (ROOT / 'configs/dvt').glob('*.py'))
IMAGE_MODEL = 'checkpoints/timesformer_in1k.pth'


@pytest.fixture(autouse=True)
def mmaction_scope():
    with DefaultScope.overwrite_default_scope('mmaction'):
        yield


def dvt(name):
    return load(f'configs/dvt/{name}.py')


def shrunk(cfg):
    shrink(cfg)
    return build(cfg)


def start_of(name):
    """The state that a config starts from, of a model as small as its own."""
    path = dvt(name).load_from
    if path == IMAGE_MODEL:
        model = shrunk(load('configs/sttm/timesformer_dense_k400.py'))
        return {key: value for key, value in model.state_dict().items()
                if not key.startswith('cls_head.')}
    parent = path.removeprefix('checkpoints/dvt_').removesuffix('.pth')
    return shrunk(dvt(parent)).state_dict()


@pytest.mark.parametrize('name', [name for name in DVT if dvt(name).load_from])
def test_a_run_starts_from_what_its_hooks_allow(name):
    cfg = dvt(name)
    options = cfg.default_hooks.check_load.to_dict()
    options.pop('type')
    hook = CheckLoadHook(**options)
    found = compare_state(shrunk(dvt(name)), start_of(name))
    assert all(hook.allow_missing.match(key) for key in found.missing)
    assert all(hook.allow_unexpected.match(key) for key in found.unexpected)
    assert all(hook.allow_reshaped.match(key) for key, _, _ in found.reshaped)
    missing = [key for key in found.missing if 'backbone' in key]
    assert bool(missing) == (cfg.load_from == IMAGE_MODEL)
    assert not [key for key, _, _ in found.reshaped if 'backbone' in key]


@pytest.mark.parametrize('name', [name for name in DVT if name.endswith('_ssv2')])
def test_ablations_start_from_the_same_ablation(name):
    """The Kinetics-400 model of the same cue, points, sub-clips and length."""
    start = dvt(name).load_from
    if start == IMAGE_MODEL:
        return
    parent = dvt(start.removeprefix('checkpoints/dvt_').removesuffix('.pth'))
    child, other = (dict(points=8, sub_clips=4, cue='motion')
                    | cfg.model.backbone.to_dict() for cfg in (dvt(name), parent))
    for key in ('attention', 'fusion', 'points', 'sub_clips', 'cue', 'temporal_size'):
        assert child.get(key) == other.get(key), key
    methods = [[step.get('fields') for step in cfg.train_dataloader.dataset.pipeline
                if step.type == 'MotionDecode'] for cfg in (parent, dvt(name))]
    assert methods[0] == methods[1] or '_ms_' in name  # which reads no fields


@pytest.mark.parametrize('name', DVT)
def test_pipelines_fit_the_model(name):
    cfg = dvt(name)
    backbone = cfg.model.backbone
    frames = backbone.get('num_frames') or backbone.get('temporal_size', 16)
    size = backbone.get('img_size', 224)
    for split in ('train', 'val', 'test'):
        steps = cfg[f'{split}_dataloader'].dataset.pipeline
        sampler, = (step for step in steps if 'Sample' in step.type)
        assert sampler.clip_len == frames
        flat = [inner for step in steps for inner in step.get('transforms', [step])]
        last = [step for step in flat if step.type in ('Resize', 'CenterCrop')][-1]
        if split == 'train':
            assert tuple(last.scale) == (size, size)
        else:
            assert last.type == 'CenterCrop' and last.crop_size == size
            resize, = (step for step in flat if step.type == 'Resize')
            assert resize.scale[1] >= size
        decoders = [step for step in steps if step.type == 'MotionDecode']
        if cfg.model.type == 'MMRecognizer3D':
            decoder, = decoders
            flow = 'optical_flow' if 'optical_flow' in name else 'stream'
            assert decoder.get('fields', 'stream') == flow
            field, = (step for step in steps if step.type == 'FormatMotion')
            assert field.stride == backbone.motion_stride
        for step in steps:
            TRANSFORMS.build(step)
