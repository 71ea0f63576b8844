# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Hosts and the detector as one graph of torch.compile, in training too.

Graph breaks are what is looked for, so the graph is run by PyTorch itself; that hosts
compile in evaluation stands in their own tests.
"""
import pytest
import tiny_evad
import torch
from mmengine.registry import DefaultScope
from test_dvt import clips, features
from test_dvt import vit as dvt_vit
from test_reduced_mvit import TINY, TINY_V1
from test_reduced_swin import TINY as SWIN
from tiny_hosts import CLIP, host, merging, spatial, temporal
from tiny_pruning import pruning
from torch.testing import assert_close

from mmaction_tokenreduce.models import ReducedMViT, ReducedSwin3D, ReducedViT

SHORT = dict(embed_dims=16, num_layers=2, num_heads=1, downscale_indices=[1])
VIT = dict(img_size=32, patch_size=8, embed_dims=24, num_heads=3, depth=2, num_frames=8,
           drop_path_rate=0.2)
VIDEO, SMALL = (3, 8, 64, 64), (3, 8, 32, 32)
SELECT = [temporal(0, 0.75), spatial(1, 0.5625)]
MERGE = [merging(1, 'clip')]
CASES = dict(
    mvit_v2=(lambda: ReducedMViT(**{**TINY, 'arch': SHORT}, reducers=SELECT,
                                 drop_path_rate=0.2), VIDEO),
    mvit_v1=(lambda: ReducedMViT(**{**TINY_V1, 'arch': SHORT}, reducers=[
        temporal(1, 0.75, strategy='cls_attention'),
        spatial(1, 0.5625, strategy='random')]), VIDEO),
    swin=(lambda: ReducedSwin3D(
        **dict(SWIN, arch=dict(embed_dims=16, depths=[2, 1], num_heads=[1, 2]),
               out_indices=(1, )), reducers=[temporal(0, 0.625, strategy='gumbel')]),
        (3, 12, 32, 32)),
    vit_merged=(lambda: ReducedViT(**VIT, reducers=MERGE), SMALL),
    vit_pruned=(lambda: ReducedViT(**VIT, reducers=[pruning(1)],
                                   return_feat_map=True), SMALL),
    timesformer=(lambda: host(reducers=[temporal(0, 0.75), *MERGE],
                              num_transformer_layers=2), CLIP),
)


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    with DefaultScope.overwrite_default_scope('mmaction'):
        yield


def whole(model):
    """The model as one graph; a graph break raises."""
    return torch.compile(model, backend='eager', fullgraph=True)


def step(model, run, *inputs):
    """Loss and gradients of a training step with seeded draws."""
    model.train().zero_grad()
    torch.manual_seed(3)
    loss = tensors(run(*inputs)).square().mean()
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in model.named_parameters()
                           if p.grad is not None}


def tensors(out):
    """All values of an output, side by side."""
    if isinstance(out, torch.Tensor):
        return out.flatten().float()
    return torch.cat([tensors(part) for part in out])


@pytest.mark.parametrize('name', CASES)
def test_a_training_step_is_one_graph(name):
    make, shape = CASES[name]
    model = make()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x = torch.randn(1, *shape)
    want, grads = step(model, model, x)
    got, compiled = step(model, whole(model), x)
    assert len(grads) > 10 and want > 0
    assert_close(got, want)
    assert_close(compiled, grads, rtol=1e-4, atol=1e-6)


def test_a_training_step_of_a_deformable_host_is_one_graph():
    model = dvt_vit(attention='st+ms', num_transformer_layers=1)
    inputs = clips(1)
    want, grads = step(model, lambda *args: features(model, *args), *inputs)
    compiled = whole(model)
    got, others = step(model, lambda *args: features(compiled, *args), *inputs)
    assert len(grads) > 10 and want > 0
    assert_close(got, want)
    assert_close(others, grads, rtol=1e-4, atol=1e-6)


def test_a_detector_is_one_graph():
    model = tiny_evad.detector(localizer=dict(num_stages=1)).eval()
    x = torch.randn(1, 3, tiny_evad.FRAMES, 64, 96)
    with torch.no_grad():
        want, got = model(x), whole(model)(x)
    assert [part.shape[1] for part in got] == [10, 10, 10]
    assert_close(got, want, rtol=1e-4, atol=1e-4)
