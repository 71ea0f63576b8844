# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""A small ViT with pruning, and the encoder of EVAD written naively (Sec. 3.2)."""
import torch
import torch.nn.functional as F
from tiny_hosts import randomize

from mmaction_tokenreduce.models import ReducedViT

VIT = dict(img_size=32, patch_size=8, embed_dims=24, num_heads=3, depth=4, num_frames=8)
THW, N, C, HEADS = (4, 4, 4), 64, 24, 3
KEY = list(range(32, 48))  # frame 2 of 4
CLIP = (3, 8, 32, 32)
ALL = (0, 1, 2, 3)


def pruning(within, keep=0.7, **kwargs):
    return dict(type='KeyframePruning', within=within, keep=keep, **kwargs)


def vit(reducers=(), **kwargs):
    return randomize(ReducedViT(**{**VIT, **kwargs}, reducers=reducers))


def decisions_of(model):
    """The places that each pruning keeps, composed from what hooks see."""
    places = [torch.arange(N).expand(8, -1)]

    def see(module, args, decision):
        places.append(places[-1][:len(decision.index)].gather(1, decision.index))

    for reducer in model.reducers:
        reducer.choose.register_forward_hook(see)
    return places


def naive_encoder(model, x, keeps, keyframe_weight=1.0, unified=False, padding=()):
    """The paper's encoder, a clip at a time; places are carried as Python lists.

    Padding takes part in nothing, but is counted until it is pruned, first of all.

    Returns:
        Tokens before the final norm by their places, in their order; the same for what
        was dropped.
    """
    tokens = (model.patch_embed(x)[0] + model.pos_embed)[0]
    places, gone = [place for place in range(N) if place not in padding], {}
    tokens, num_padded = tokens[places], len(padding)
    for block, keep in zip(model.blocks, keeps, strict=True):
        attn, normed = block.attn, block.norm1(tokens)
        bias = torch.cat((attn.q_bias, torch.zeros(C), attn.v_bias))
        parts = F.linear(normed, attn.qkv.weight, bias).chunk(3, dim=-1)
        heads, maps = [], 0
        for q, k, v in zip(*(part.chunk(HEADS, -1) for part in parts), strict=True):
            weights = (q @ k.T * attn.scale).softmax(-1)
            heads.append(weights @ v)
            maps = maps + weights / HEADS
        tokens = tokens + attn.proj(torch.cat(heads, -1))
        if keep < 1:
            rows = torch.tensor([keyframe_weight if place in KEY else 1.0
                                 for place in places])
            importance = (rows @ maps / len(places)).tolist()
            count = -(-round(10 * keep) * (len(places) + num_padded) // 10)
            padded_key = 0 if unified else len(set(padding) & set(KEY))
            fixed = [] if unified else [p for p in places if p in KEY]
            others = sorted((place for place in places if place not in fixed),
                            key=lambda p: -importance[places.index(p)])
            by_place = dict(zip(places, tokens, strict=True))
            places = (fixed + others)[:count - padded_key]
            num_padded = count - len(places)
            gone |= {p: by_place[p] for p in by_place if p not in places}
            tokens = torch.stack([by_place[p] for p in places])
        mlp = block.mlp.layers
        tokens = tokens + mlp[1](F.gelu(mlp[0][0](block.norm2(tokens))))
    return dict(zip(places, tokens, strict=True)), gone
