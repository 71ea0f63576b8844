# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What pruning blocks hold: never a map of all heads and tokens; less in training."""
import pytest
import torch
from tiny_pruning import pruning
from torch.utils._python_dispatch import TorchDispatchMode

from mmaction_tokenreduce.models import ReducedViT

SIZES = dict(img_size=64, patch_size=8, embed_dims=16, num_heads=4, depth=4,
             num_frames=16)
HEADS, N = 4, 512
PRUNED = [pruning(1, keyframe_weight=4), pruning(2)]


class Sizes(TorchDispatchMode):
    """Sizes of the tensors that are computed, in autograd's backward pass too."""

    def __init__(self):
        super().__init__()
        self.numel = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **kwargs or {})
        for part in out if isinstance(out, tuple | list) else (out, ):
            if isinstance(part, torch.Tensor):
                self.numel.add(part.numel())
        return out


def run(mode, padded):
    model = ReducedViT(**SIZES, reducers=PRUNED, out_indices=(0, 3),
                       with_cp=mode == 'recomputed')
    model.train(mode != 'evaluated')
    valid = torch.ones(1, 8, 8, dtype=torch.bool)
    valid[..., 6:] = not padded
    with Sizes() as sizes, torch.set_grad_enabled(mode != 'evaluated'):
        clip = model(torch.randn(1, 3, 16, 64, 64), valid)
        if mode != 'evaluated':
            clip.tokens.square().sum().backward()
    return max(sizes.numel)


@pytest.mark.parametrize('padded', [False, True])
@pytest.mark.parametrize('mode', ['evaluated', 'trained', 'recomputed'])
def test_the_map_is_never_held(mode, padded):
    assert run(mode, padded) <= HEADS * N * N // 2


def test_the_test_would_see_a_map(monkeypatch):
    """Of attention that makes one."""
    def attend(q, k, v, scale, dropout=0.0, valid=None):
        return ((q @ k.mT) * scale).softmax(-1) @ v

    monkeypatch.setattr('mmaction_tokenreduce.models.backbones.vit_block.attend',
                        attend)
    assert run('trained', False) == HEADS * N * N


def saved_bytes(reducers):
    """What one step in training keeps for its backward pass."""
    model = ReducedViT(**SIZES, reducers=reducers, out_indices=(0, 3)).train()
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    held = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            held[storage.data_ptr()] = storage.nbytes(), tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        clip = model(torch.randn(1, 3, 16, 64, 64))
    assert clip.tokens.requires_grad
    return sum(size for size, _ in held.values())


def test_training_keeps_less():
    """Tokens of 4 blocks: 512, 512, 359, 252; within blocks 1 and 2 fewer already."""
    dense, pruned = saved_bytes([]), saved_bytes(PRUNED)
    assert 0.55 * dense < pruned < 0.8 * dense
