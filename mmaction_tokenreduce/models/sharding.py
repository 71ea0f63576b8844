# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Which modules fully sharded training (FSDP) shards by themselves.

A config names the policy by its path (docs/training.md):
``auto_wrap_policy='mmaction_tokenreduce.models.sharding.wrap_blocks'``.
"""
from torch import nn

from .backbones.dvt_mvit import DeformableBlock
from .backbones.dvt_timesformer import DeformableLayer
from .backbones.multiscale_block import FusedBlock as FusedMultiScaleBlock
from .backbones.timesformer_block import FusedLayer
from .backbones.vit_block import FusedBlock as FusedViTBlock
from .backbones.window_block import FusedWindowBlock

BLOCKS = (DeformableBlock, DeformableLayer, FusedLayer, FusedMultiScaleBlock,
          FusedViTBlock, FusedWindowBlock)


def wrap_blocks(module: nn.Module, recurse: bool, nonwrapped_numel: int) -> bool:
    """Shard every block of a host by itself; the rest belongs to the root.

    Hosts call their blocks as modules, so that a block's parameters are gathered for
    its own forward and backward pass alone. Reducers are small and stay with the root.

    Args:
        module: The module in question.
        recurse: Whether torch asks to look into the module rather than to wrap it.
        nonwrapped_numel: Number of parameters that would be wrapped; torch hands it to
            every policy, here it does not matter.

    Returns:
        Whether to look into it, or to wrap it.
    """
    return recurse or isinstance(module, BLOCKS)
