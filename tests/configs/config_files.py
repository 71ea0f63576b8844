# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What the tests of configs share: every config, its model, its cost, a small form."""
import copy
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import torch
import yaml
from fewer_blocks import MVIT_SMALL, shorten
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import nn

from mmaction_tokenreduce.evaluation import (
    Complexity,
    count_complexity,
    default_input_shape,
    recognizer_forward,
)

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted(path.relative_to(ROOT).as_posix()
                 for path in (ROOT / 'configs').glob('*/*.py')
                 if path.parent.name != '_base_')
DETECTORS = [path for path in CONFIGS
             if 'evad' in path and 'two_stage' not in path]
CLASSIFIERS = [path for path in CONFIGS if 'evad' not in path]  # the others detect
EVAD = [Path(path).stem for path in DETECTORS if path.startswith('configs/evad/')]
STTS = [Path(path).stem for path in CONFIGS if path.startswith('configs/stts/')]


def load(path: str) -> Config:
    """A config by its path from the checkout; the caller may change it."""
    return copy.deepcopy(_load(path))


@cache
def _load(path: str) -> Config:
    return Config.fromfile(ROOT / path)


def stts(name: str) -> Config:
    """A config of configs/stts by its name."""
    return load(f'configs/stts/{name}.py')


def build(cfg: Config) -> nn.Module:
    """The model of a config."""
    with DefaultScope.overwrite_default_scope('mmaction'):
        return MODELS.build(cfg.model)


@contextmanager
def on_meta() -> Iterator[None]:
    """Models are built without their initial values, which take longer than a count.

    mmaction2's ViT reads the rates of its drop path from a tensor: that has values.
    """
    linspace = partial(torch.linspace, device='cpu')
    with mock.patch('torch.linspace', linspace), torch.device('meta'):
        yield


class Cost(NamedTuple):
    """Of one view of a model; ``selecting`` is the share of its reducers."""
    flops: int
    params: int
    selecting: int = 0

    @property
    def gflops(self) -> float:
        return self.flops / 1e9

    @classmethod
    def of(cls, counted: Complexity) -> 'Cost':
        """What a count says."""
        selecting = sum(part.flops for name, part in counted.parts.items()
                        if name.startswith('backbone.reducers'))
        return cls(counted.flops, counted.params, selecting)


def cost(cfg: Config) -> Cost:
    """Cost of a config's model, from one with fewer blocks where some are equal."""
    cfg = copy.deepcopy(cfg)
    repeated = shorten(cfg.model.backbone)
    counted = full_count(cfg)
    short = Cost.of(counted)
    more = [(times - 1, part) for start, times in repeated.items()
            for name, part in counted.parts.items() if f'{name}.'.startswith(start)]
    return short._replace(
        flops=short.flops + sum(times * part.flops for times, part in more),
        params=short.params + sum(times * part.params for times, part in more))


def full_count(cfg: Config) -> Complexity:
    """One view of a config's model, counted; each distinct model is counted once."""
    model = cfg.model.to_dict()
    for reducer in model['backbone'].get('reducers', ()):
        reducer.pop('strategy_cfg', None)  # noise costs nothing in evaluation
    parts = {key: model[key] for key in (
        'type', 'backbone', 'neck', 'localizer', 'cls_head', 'action_head')
        if key in model}
    what = dict(parts, shape=default_input_shape(cfg))
    return _count(json.dumps(what, sort_keys=True))


@cache
def _count(what: str) -> Complexity:
    model = json.loads(what)
    shape = model.pop('shape')
    with on_meta():
        recognizer = build(Config(dict(model=model)))
    # The meta device: the same count without arithmetic. A trace notes the stack of
    # every operation; in a thread of its own pytest's frames are not among them.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(
            count_complexity, recognizer,
            torch.empty(1, *shape, device='meta'), recognizer_forward, 4).result()


def shrink(cfg: Config, fewer: bool = False) -> tuple[int, int, int, int]:
    """Make the same model small enough to train a step in a test.

    Args:
        cfg: Changed in place.
        fewer: Leave one block of equal ones, see `shorten`.

    Returns:
        The (C, T, H, W) of a view for it.
    """
    backbone, head = cfg.model.backbone, cfg.model.cls_head
    head = head.get('head', head)  # that of verb and noun
    small = backbone.get('arch') == 'small'
    if fewer:
        shorten(backbone)
    if small:
        arch = backbone.arch if fewer else MVIT_SMALL
        backbone.arch = dict(arch, embed_dims=8)
        head.in_channels = 64
        return (3, backbone.get('temporal_size', 16), 64, 64)
    if 'Swin' in backbone.type:
        backbone.update(
            arch=dict(embed_dims=8, depths=[2, 1, 1, 1], num_heads=[1, 1, 2, 2]),
            window_size=(backbone.window_size[0], 2, 2), pretrained2d=False,
            pretrained=None)
        head.in_channels = 64
        return (3, 32, 32, 32)
    if backbone.type in ('ReducedTimeSformer', 'TimeSformer', 'DVTTimeSformer'):
        backbone.update(embed_dims=16, num_heads=2, img_size=64)
        backbone.pop('pretrained', None)  # an address
        head.in_channels = 16
        return (3, backbone.num_frames, 64, 64)
    if backbone.type.endswith(('ReducedViT', 'VisionTransformer')) and (
            backbone.img_size > 64):
        backbone.update(embed_dims=16, num_heads=2, img_size=64)
        head.in_channels = 16
        return (3, backbone.num_frames, 64, 64)
    return default_input_shape(cfg)


def shrink_detector(cfg: Config) -> tuple[int, int, int, int]:
    """Make the same detector small; the (C, T, H, W) of a clip for it."""
    model = cfg.model
    frames = model.backbone.num_frames
    model.backbone.update(img_size=64, embed_dims=16, num_heads=2)
    model.neck[1].update(in_channels=[16] * 4, out_channels=16)
    model.localizer.update(num_proposals=6, num_stages=2, channels=16,
                           dynamic_channels=4,
                           head=dict(num_heads=2, feedforward_channels=8))
    model.action_head.in_channels = 16
    if model.action_head.type == 'ContextRefinementHead':
        model.action_head.update(channels=12, num_heads=2, hidden_channels=8,
                                 grid=(frames // 2, 4, 4))
    return (3, frames, 64, 64)


def tables(path: str) -> Iterator[dict[str, str]]:
    """Rows of the tables in a page, as cells by column."""
    header = None
    for line in (ROOT / path).read_text().splitlines():
        if not line.startswith('|'):
            header = None
            continue
        cells = [cell.strip() for cell in line.strip('|').split('|')]
        if header is None:
            header = cells
        else:
            yield dict(zip(header, cells, strict=True))


@cache
def table_rows(folder: str) -> dict[str, dict[str, str]]:
    """Rows of the tables in configs/<folder>/README.md, by the config in column one."""
    rows = {}
    for row in tables(f'configs/{folder}/README.md'):
        first = next(iter(row.values()))
        if first.startswith('`'):
            assert rows.setdefault(first.strip('`'), row) is row, row
    return rows


@cache
def metafile(folder: str) -> dict:
    """configs/<folder>/metafile.yml."""
    return yaml.safe_load((ROOT / 'configs' / folder / 'metafile.yml').read_text())


def check_index(folder: str, names: list[str]) -> None:
    """The metafile of a folder lists these configs, each once, without weights."""
    index = metafile(folder)
    collections = {collection['Name'] for collection in index['Collections']}
    assert {model['In Collection'] for model in index['Models']} <= collections
    assert sorted(model['Name'] for model in index['Models']) == names
    for model in index['Models']:
        assert model['Config'] == f'configs/{folder}/{model["Name"]}.py'
        assert 'Weights' not in model  # none are published


def check_entry(model: dict, cfg: Config, counted: Cost,
                metrics: dict[str, float]) -> None:
    """An entry of a metafile says what its config does, costs and is said to reach."""
    data = model['Metadata']
    assert data['FLOPs'] == f'{counted.gflops:.2f}G'
    assert data['Parameters'] == f'{counted.params / 1e6:.2f}M'
    assert data['Epochs'] == cfg.train_cfg.max_epochs
    assert data['Batch Size'] == cfg.auto_scale_lr.base_batch_size
    dataset = {400: 'Kinetics-400', 174: 'Something-Something V2', 48: 'Diving-48',
               None: 'EPIC-KITCHENS-100'}[cfg.model.cls_head.get('num_classes')]
    assert data['Training Data'] == dataset
    (result, ) = model.get('Results') or [dict(Dataset=dataset, Metrics={})]
    assert (result['Dataset'], result['Metrics']) == (dataset, metrics)
