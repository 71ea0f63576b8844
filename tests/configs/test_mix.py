# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""configs/mix: mmaction2's recipes, reduced: whose weights they take, what they cost.

That each trains a step and tests is seen by test_configs.py.
"""
import ast
import copy
from functools import cache
from importlib import resources

import pytest
import yaml
from config_files import ROOT, build, cost, load, on_meta, shrink, table_rows
from mmengine.config import Config

MIX = sorted(path.stem for path in (ROOT / 'configs/mix').glob('*.py'))
COLUMN = 'base, in `mmaction::recognition/`'
OWN = 'backbone.reducers.'
TEMPORAL = '.attentions.0.'  # of TimeSformer's layers with divided attention


def source(name):
    return (ROOT / 'configs/mix' / f'{name}.py').read_text()


def base_of(name):
    """What ``_base_`` of a config says."""
    assigned = {node.targets[0].id: node.value for node in ast.parse(source(name)).body}
    return ast.literal_eval(assigned['_base_'])


def mix(name):
    return load(f'configs/mix/{name}.py')


def dense(name):
    cfg = mix(name)
    cfg.model.backbone.reducers = []
    return cfg


@cache
def published():
    """Weights and top-1 of mmaction2's models by their address."""
    found = {}
    root = resources.files('mmaction') / '.mim/configs/recognition'
    for folder in ('swin', 'mvit', 'timesformer', 'videomae'):
        index = yaml.safe_load((root / folder / 'metafile.yml').read_text())
        for model in index['Models']:
            top1 = model['Results'][0]['Metrics'].get('Top 1 Accuracy')
            found[model['Weights']] = (model['Config'], top1)
    return found


def test_every_config_is_in_the_table_once():
    assert MIX and sorted(table_rows('mix')) == MIX


@pytest.mark.parametrize('name', MIX)
def test_a_recipe_of_mmaction2_and_its_weights(name):
    """The base, the address in the comment and the table are of one model."""
    base, row = base_of(name), table_rows('mix')[name]
    assert base == f'mmaction::recognition/{row[COLUMN].strip("`")}.py'
    (weights, ) = (line.removeprefix('# ') for line in source(name).splitlines()
                   if line.startswith('# https://'))
    config, top1 = published()[weights]
    assert config == base.replace('mmaction::', 'configs/')
    assert float(row["host's top-1"]) == top1
    code = [line for line in source(name).splitlines() if not line.startswith('#')]
    assert len(code) <= 12


def small(cfg, tmp_path, name):
    """State dicts' shapes of a config's model and of its base's, both at small size."""
    path = tmp_path / 'base.py'
    path.write_text(f'_base_ = {base_of(name)!r}\n')
    models = []
    for part in (cfg, Config.fromfile(path)):
        shrink(part)
        models.append(build(part))
    return models


@pytest.mark.parametrize('name', MIX)
def test_the_hosts_weights_load(name, tmp_path):
    """All of them, and nothing else is there where the table says "no" to training."""
    reduced, host = small(mix(name), tmp_path, name)
    mine, theirs = reduced.state_dict(), host.state_dict()
    own = {key for key in mine if key.startswith(OWN)}
    lost = set(theirs) - set(mine)
    training = table_rows('mix')[name]['training']
    assert set(mine) - own <= set(theirs)
    assert (training == 'no') == (not own and not lost)
    assert training.startswith('advised') == bool(lost)
    assert all(TEMPORAL in key for key in lost)
    found = reduced.load_state_dict(theirs, strict=not own)
    assert (set(found.missing_keys), found.unexpected_keys) == (own, [])


@pytest.mark.parametrize('name', MIX)
def test_the_table_says_what_is_counted(name):
    row = table_rows('mix')[name]
    with on_meta():
        counted = [cost(cfg).gflops for cfg in (dense(name), mix(name))]
    assert [row['dense'], row['reduced']] == [f'{gflops:.2f}' for gflops in counted]


def test_the_detector_prunes_as_many_tokens_as_the_classifier():
    """What the page says of its backbone's cost: same sizes, same places, same keep."""
    detector = load('configs/evad/two_stage_videomae_base_ava.py').model.backbone
    classifier = mix('videomae_base_pruned_k400').model.backbone
    sizes = ('img_size', 'patch_size', 'embed_dims', 'depth', 'num_heads', 'mlp_ratio',
             'num_frames')
    assert [detector[key] for key in sizes] == [classifier[key] for key in sizes]
    for mine, theirs in zip(classifier.reducers, detector.reducers, strict=True):
        theirs = copy.deepcopy(theirs)
        assert mine == dict(theirs, unified=True)
