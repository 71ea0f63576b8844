# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""docs/mixing.md: its matrix of hosts and reducers is what models say when they run."""
import ast

import pytest
import torch
from config_files import ROOT, tables
from mmaction.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope

PAGE = 'docs/mixing.md'
MVIT = dict(type='ReducedMViT', spatial_size=32, temporal_size=8, arch=dict(
    embed_dims=8, num_layers=4, num_heads=1, downscale_indices=[3]))
TIMESFORMER = dict(type='ReducedTimeSformer', num_frames=4, img_size=32, patch_size=8,
                   embed_dims=24, num_heads=3, num_transformer_layers=4)
VIT = dict(type='ReducedViT', num_frames=8, img_size=32, patch_size=8, embed_dims=24,
           num_heads=3, depth=4)
HOSTS = {
    'MViTv1': dict(MVIT, rel_pos_embed=False, rel_pos_zero_init=True,
                   residual_pooling=False, dim_mul_in_attention=False,
                   pool_query='downscale', separable_pos_embed=True),
    'MViTv2': MVIT,
    'Video Swin': dict(type='ReducedSwin3D', pretrained2d=False, window_size=(2, 2, 2),
                       arch=dict(embed_dims=8, depths=[1] * 4, num_heads=[1] * 4)),
    'TimeSformer, divided': dict(TIMESFORMER, attention_type='divided_space_time'),
    'TimeSformer, joint': dict(TIMESFORMER, attention_type='joint_space_time'),
    'VideoMAE ViT': VIT,
    "the same for a detector's head": dict(VIT, return_feat_map=True,
                                           use_mean_pooling=False),
    'the same in EVAD': dict(VIT, out_indices=(1, 3)),
}
TEMPORAL = '.attentions.0.'  # of TimeSformer's layers with divided attention


def reducer(cell):
    """A reducer's config from how the page writes it, half of everything by default."""
    call = ast.parse(cell.strip('`'), mode='eval').body
    cfg = {word.arg: ast.literal_eval(word.value) for word in call.keywords}
    if 'within' not in cfg:
        cfg.setdefault('before', 1)
    if call.func.id.endswith('Selection'):
        cfg.setdefault('keep', 0.5)
    return dict(type=call.func.id, **cfg)


def build(name, *cells):
    with DefaultScope.overwrite_default_scope('mmaction'):
        return MODELS.build(dict(HOSTS[name], reducers=[reducer(c) for c in cells]))


def run(model, name):
    """Run a model; fails unless each of its reducers chose something."""
    chosen = []
    for module in model.reducers:
        module.choose.register_forward_hook(lambda module, *_: chosen.append(module))
    out = model(torch.randn(1, 3, HOSTS[name].get('num_frames', 8), 32, 32))
    while isinstance(out, tuple | list):  # scales, or an encoded clip
        out = out[0]
    assert chosen == [module.choose for module in model.reducers]
    assert out.isfinite().all()
    return out


def matrix():
    """(reducer, host, cell) of the page's matrix."""
    rows = [row for row in tables(PAGE) if 'MViTv2' in row]
    for row in rows[1:]:  # the first is the rule below the header
        cell = row.pop('reducer')
        assert set(row) == set(HOSTS)
        yield from ((cell, host, said) for host, said in row.items())


MATRIX = list(matrix())
MESSAGES = {row['']: row['message'] for row in tables(PAGE) if 'message' in row}
ORDERS = [row for row in tables(PAGE) if row.get('first', '').startswith('`')]
DENSE = {}  # keys of each host's state dict without reducers


def test_the_page_has_all_of_them():
    assert len(MATRIX) == 16 * len(HOSTS) and len(ORDERS) == 9
    assert {said for *_, said in MATRIX} - set(MESSAGES) == {
        'yes', 'yes*', 'learned', 'learned*'}


@pytest.mark.parametrize('host', HOSTS)
def test_the_matrix_of_hosts_and_reducers(host):
    dense = set(build(host).state_dict())
    for cell, name, said in MATRIX:
        if name != host:
            continue
        if said in MESSAGES:
            message = MESSAGES[said].replace('HOST', HOSTS[host]['type'])
            with pytest.raises(ValueError) as error:
                build(host, cell)
            assert message in str(error.value), cell
            continue
        model = build(host, cell)
        keys = set(model.state_dict())
        own = {key for key in keys if key.startswith('reducers.')}
        assert bool(own) == said.startswith('learned'), cell
        lost = dense - keys
        assert keys - own == dense - lost
        assert bool(lost) == said.endswith('*'), cell
        assert all(TEMPORAL in key for key in lost), cell
        out = run(model.train(), host)
        if own:
            out.square().sum().backward()
            assert any(p.grad is not None for p in model.reducers.parameters()), cell
        with torch.no_grad():
            run(build(host, cell).eval(), host)


@pytest.mark.parametrize('row', ORDERS, ids=str)
def test_reducers_that_follow_each_other(row):
    if row[''] == 'yes':
        run(build('VideoMAE ViT', row['first'], row['then']).eval(), 'VideoMAE ViT')
        return
    with pytest.raises(ValueError) as error:
        build('VideoMAE ViT', row['first'], row['then'])
    assert row[''] in str(error.value)


def test_the_config_of_the_page(tmp_path):
    """It is as long as its heading says, and one of configs/mix."""
    text = (ROOT / PAGE).read_text().split('```python\n')[1].split('```')[0]
    assert len(text.splitlines()) <= 10
    (tmp_path / 'mine.py').write_text(text)
    cfg = Config.fromfile(tmp_path / 'mine.py')
    mix = Config.fromfile(ROOT / 'configs/mix/timesformer_joint_tome_k400.py')
    assert cfg.to_dict() == mix.to_dict()
