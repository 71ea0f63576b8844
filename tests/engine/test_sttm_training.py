# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Training with merges in two processes."""
import pytest
import torch
from mmcv.cnn.bricks import DropPath
from two_ranks import assert_same, gradients_of_one, gradients_of_two

from mmaction_tokenreduce.models import ReducedTimeSformer, ReducedViT
from mmaction_tokenreduce.ops import orthogonal

REDUCERS = [dict(type='TokenMerging', before=1, scope='frame'),
            dict(type='TokenMerging', before=2, scope='clip')]


def clips_to_loss(host):
    """The host, made to map clips to the mean of a loss of each."""

    class Loss(host):

        def forward(self, clips):
            return super().forward(clips).square().sum(1).mean()

    return Loss


def first_tokens(x, generator, mask):
    """The token to start from, the same in every process."""
    return torch.zeros(len(x), dtype=torch.long)


def randomize(model):
    """Beyond a start at which attention over time gets no gradient; nothing dropped."""
    orthogonal._draw = first_tokens
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    for module in model.modules():
        if isinstance(module, DropPath):
            module.drop_prob = 0.0
    return model.train()


def make_timesformer(first, count):
    return randomize(clips_to_loss(ReducedTimeSformer)(
        num_frames=4, img_size=32, patch_size=8, embed_dims=24, num_heads=3,
        num_transformer_layers=3, reducers=REDUCERS))


def make_vit(first, count):
    return randomize(clips_to_loss(ReducedViT)(
        img_size=32, patch_size=8, embed_dims=24, depth=3, num_heads=3, num_frames=8,
        reducers=REDUCERS))


@pytest.mark.parametrize('make,frames', [(make_timesformer, 4), (make_vit, 8)])
def test_two_processes_give_the_gradients_of_one(make, frames, tmp_path, monkeypatch):
    clips = torch.randn(4, 3, frames, 32, 32)
    two = gradients_of_two(make, clips, tmp_path)
    monkeypatch.setattr(orthogonal, '_draw', first_tokens)  # undone after the test
    one = gradients_of_one(make, clips)
    assert any('phi' in name for name in one)
    assert all(grad.abs().sum() > 0 for grad in one.values())
    assert_same(one, two)
