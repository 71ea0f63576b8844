# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Attention roll-out: from which patches an output draws (STTM, Sec. 4.5, Fig. 4).

Abnar and Zuidema, *Quantifying Attention Flow in Transformers*, ACL 2020, Sec. 3: of
each layer the attention map, mean over heads, is averaged with the identity (the
residual), and these are multiplied. A merge counts by its weights, a selection or a
pruning by what it keeps. Weights over the output are pulled back layer by layer, so
that only products of a vector with a map are needed; maps are computed again from what
the attention was given, as the fused attention of the hosts holds none.

Legend: B batch, T H W grid, N places of a frame, M tokens of a clip, E 1 with a class
token, else 0.
"""
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import KeyframePruning
from ..models.backbones.reduced_vit import ReducedViT
from ..models.backbones.timesformer_block import DividedLayer, JointLayer
from ..models.backbones.vit_block import FusedAttention, FusedBlock
from ..ops.grid import Size3
from .token_steps import StepTrace

__all__ = ['AttentionRollout']

TIME, SPACE, JOINT = 'time', 'space', 'joint'


class AttentionRollout(StepTrace):
    """Records the attention of a model while it runs, with its reducers.

    ::

        with AttentionRollout(model) as trace:
            model(clips)
        trace.heat(sample=0, thw=token_grid(model, clips.shape[-3:]))

    Args:
        model: Holds a ``ReducedTimeSformer`` or ``ReducedViT``, with reducers or not.

    Raises:
        ValueError: If it holds neither, or one whose output is not read as one token.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self._attentions: dict[nn.Module, str] = {}
        self._has_cls, self._first = True, False
        for module in model.modules():
            if isinstance(module, JointLayer) or (isinstance(module, DividedLayer)
                                                  and module.joint):
                self._attentions[module.attentions[-1].attn] = JOINT
            elif isinstance(module, DividedLayer):
                self._attentions[module.attentions[0].attn] = TIME
                self._attentions[module.attentions[1].attn] = SPACE
            elif isinstance(module, FusedBlock):
                self._attentions[module.attn] = JOINT
            elif isinstance(module, ReducedViT):
                _check_output(module)
                self._has_cls = False
                self._first = not (module.return_feat_map or module.fc_norm is not None)
        if not self._attentions:
            raise ValueError(f'{type(model).__name__} holds no attention that can be '
                             'rolled out: allowed are the backbones ReducedTimeSformer '
                             'and ReducedViT, with reducers or without')

    def __enter__(self) -> 'AttentionRollout':
        super().__enter__()
        self._handles += [attention.register_forward_pre_hook(self._see_attention)
                          for attention in self._attentions]
        return self

    def _see_attention(self, module: nn.Module, args: tuple) -> None:
        if isinstance(module, FusedAttention) and len(args) > 2 and (
                args[2] is not None):
            raise ValueError('AttentionRollout: clips with padding (valid) are not '
                             'followed: pass clips that are all image')
        self._seen.append((module, args[0].detach()))

    def heat(self, sample: int, thw: Size3) -> Tensor:
        """How much of the output of one clip goes back to each of its patches.

        The output is the class token, or without one what ``ReducedViT`` reads: the
        mean over its tokens, or the first with ``use_mean_pooling=False``.

        Args:
            sample: Number of the clip in the batch.
            thw: The grid of its patches, see :func:`token_grid`.

        Returns:
            (T, H, W) float64, not negative, summing to 1: what stays on the class token
            itself is left out. Patches that were dropped before any attention saw them
            have 0.

        Raises:
            ValueError: If the model was not run, or run more than once, or on another
                grid, or if there is no such clip.
        """
        self._check(len(self._watched) + len(self._attentions))
        steps, tokens = self._steps(sample, thw)
        cls = torch.tensor(float(self._has_cls), dtype=torch.float64)
        patches = torch.zeros(tokens, dtype=torch.float64)
        if self._first:
            patches[0] = 1
        elif not self._has_cls:
            patches += 1 / tokens
        for kind, step in reversed(steps):
            if kind is None:
                patches = step.pull(patches.unsqueeze(0))[0]
            elif kind == JOINT:
                cls, patches = self._pull_joint(cls, patches, *step)
            elif kind == SPACE:
                cls, patches = _pull_space(cls, patches, *step)
            else:
                patches = _pull_time(patches, *step)
        return (patches / patches.sum()).view(thw)

    def _steps(self, sample: int, thw: Size3) -> tuple[list[tuple[str | None, Any]],
                                                       int]:
        """What acted on one clip, in order, and the tokens that it left.

        Attentions come as their kind, module and the rows (R, L, C) of this clip.
        """
        tokens, frames, steps = thw[0] * thw[1] * thw[2], thw[0], []
        for module, what in self._seen:
            kind = self._attentions.get(module)
            if kind is None:
                step, frames = self._step(module, what, sample, tokens, frames)
                if step is not None:
                    steps.append((None, step))
                    tokens = len(step.origin())
                continue
            rows, length = dict(time=(tokens // frames, frames),
                                space=(frames, 1 + tokens // frames),
                                joint=(1, self._has_cls + tokens))[kind]
            if what.shape[1] != length or len(what) < (sample + 1) * rows or sample < 0:
                raise ValueError(
                    f'roll-out of clip {sample}: an attention over {kind} was given '
                    f'{len(what)} rows of {what.shape[1]} tokens, by the grid there '
                    f"are {length} tokens in each; attention_type='space_only' is not "
                    'followed')
            steps.append((kind, (module, what[sample * rows:(sample + 1) * rows])))
        return steps, tokens

    def _pull_joint(self, cls: Tensor, patches: Tensor, attention: nn.Module,
                    x: Tensor) -> tuple[Tensor, Tensor]:
        """Through attention of all tokens, x (1, E + M, C), to all."""
        if not self._has_cls:
            return cls, _pull(patches.unsqueeze(0), attention, x)[0]
        row = _pull(torch.cat((cls.view(1), patches)).unsqueeze(0), attention, x)[0]
        return row[0], row[1:]


def _check_output(host: ReducedViT) -> None:
    if host.out_indices is not None:
        raise ValueError(f'{type(host).__name__}: out_indices={host.out_indices} hands '
                         'tokens to a detector, and attention is rolled out for the '
                         'one token that a classifier reads')
    if host.return_feat_map and any(isinstance(reducer, KeyframePruning)
                                    and reducer.keep != 1 for reducer in host.reducers):
        raise ValueError(f'{type(host).__name__}: return_feat_map=True restores pruned '
                         'tokens, which attention roll-out does not follow')


def _pull_space(cls: Tensor, patches: Tensor, attention: nn.Module,
                x: Tensor) -> tuple[Tensor, Tensor]:
    """Through attention within frames, x (T, 1 + N, C).

    Each frame has a copy of the class token, and the output is the mean of the copies.
    """
    frames = len(x)
    rows = torch.cat(((cls / frames).expand(frames, 1), patches.view(frames, -1)), 1)
    rows = _pull(rows, attention, x)
    return rows[:, 0].sum(), rows[:, 1:].flatten()


def _pull_time(patches: Tensor, attention: nn.Module, x: Tensor) -> Tensor:
    """Through attention of each place over the frames, x (N, T, C)."""
    rows = patches.view(x.shape[1], -1).T  # (N, T)
    return _pull(rows, attention, x).T.flatten()


def _pull(rows: Tensor, attention: nn.Module, x: Tensor) -> Tensor:
    """Weights (R, L) after attention and residual, as weights before them.

    Args:
        rows: The weights.
        attention: One of the hosts' fused attentions.
        x: (R, L, C), what it was given.
    """
    q, k, scale = _queries_and_keys(attention, x)
    total = torch.zeros_like(rows)
    for head in range(q.shape[1]):  # one map at a time
        logits = (q[:, head] @ k[:, head].mT).float() * scale
        total += (rows.unsqueeze(1).to(x.device)
                  @ logits.softmax(-1).double())[:, 0].cpu()
    return (rows + total / q.shape[1]) / 2


@torch.no_grad()
def _queries_and_keys(attention: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, float]:
    """q and k (R, heads, L, D), and the scale of their products."""
    heads, channels = attention.num_heads, x.shape[-1]
    if isinstance(attention, nn.MultiheadAttention):
        weight, bias = attention.in_proj_weight, attention.in_proj_bias
        scale = (channels // heads)**-0.5
    else:
        weight, bias, scale = attention.qkv.weight, None, attention.scale
        if hasattr(attention, 'q_bias'):
            bias = torch.cat((attention.q_bias, torch.zeros_like(attention.q_bias)))
    width = weight.shape[0] // 3 * 2  # values are not needed
    qk = F.linear(x.float(), weight[:width].float(),
                  None if bias is None else bias[:width].float())
    q, k = qk.unflatten(-1, (2, heads, -1)).permute(2, 0, 3, 1, 4)
    return q, k, scale
