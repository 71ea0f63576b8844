# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""TimeSformer layers with fused attention, on mmaction2's parameters.

The parts, and so the parameter names, are those of the mmcv layer that mmaction2's
``TimeSformer`` builds. Tokens are time-major here and the number of frames is an
argument; mmaction2 stores them patch-major and the number in each attention.

Legend: B batch, T frames, N tokens of a frame, M tokens of a clip (T*N or what merging
left), C channels; the class token stands in front.
"""
import torch
import torch.nn.functional as F
from mmcv.cnn.bricks import DropPath
from mmcv.cnn.bricks.transformer import BaseTransformerLayer
from mmengine.model import BaseModule
from torch import Tensor, nn

from ...ops.attention import cls_row
from ...ops.linear import linear

__all__ = ['DividedLayer', 'JointLayer']


class FusedMultiheadAttention(nn.MultiheadAttention):
    """Self-attention that never holds its map; the same parameters.

    It reads the weights of ``out_proj`` and does not call it: what replaces or hooks
    it has no effect here.
    """

    def forward(self, x: Tensor, with_row: bool = False) -> tuple[Tensor,
                                                                  Tensor | None]:
        """Tokens (R, L, C) to the same, and the first one's attention (R, L - 1)."""
        qkv = linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = qkv.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(
            q, k, v, dropout_p=self.dropout if self.training else 0.0)
        row = cls_row(q, k, q.shape[-1]**-0.5) if with_row else None
        out = out.transpose(1, 2).flatten(2)
        return linear(out, self.out_proj.weight, self.out_proj.bias), row


def _fuse(attention: nn.Module) -> None:
    """Let the attention inside one of mmaction2's wrappers compute fused."""
    attention.attn.__class__ = FusedMultiheadAttention


class FusedLayer(BaseTransformerLayer):
    """Base of both kinds: takes over the parts of mmcv's layer.

    Args:
        dense: The layer.

    Raises:
        ValueError: If its parts do not act in ``order``.
    """
    order: tuple[str, ...]

    def __init__(self, dense: BaseTransformerLayer) -> None:
        if tuple(dense.operation_order) != self.order:
            raise ValueError('ReducedTimeSformer: transformer_layers with '
                             f'operation_order={tuple(dense.operation_order)}: allowed '
                             f'with this attention_type is {self.order}')
        BaseModule.__init__(self, init_cfg=dense.init_cfg)
        vars(self).update(vars(dense))
        for module in self.modules():
            if isinstance(module, DropPath):
                # mmaction2 leaves a NumPy number, at which compilers break the graph.
                module.drop_prob = float(module.drop_prob)

    def _attend_jointly(self, attention: nn.Module, normed: Tensor, x: Tensor,
                        with_row: bool) -> tuple[Tensor, Tensor | None]:
        """All tokens of a clip attend to all; the residual ``x`` is added."""
        out, row = attention.attn(normed, with_row)
        return x + attention.dropout_layer(attention.proj_drop(out)), row


class JointLayer(FusedLayer):
    """Joint space-time attention and MLP, both with their norm in front."""
    order = ('norm', 'self_attn', 'norm', 'ffn')

    def __init__(self, dense: BaseTransformerLayer) -> None:
        super().__init__(dense)
        _fuse(self.attentions[0])

    def forward(self, x: Tensor, num_frames: int,
                with_row: bool = False) -> tuple[Tensor, Tensor | None]:
        """Tokens (B, 1 + M, C) to the same.

        Args:
            x: The tokens.
            num_frames: Not needed: all tokens attend to all.
            with_row: Whether the class token's attention (B, M) is wanted.
        """
        x, row = self._attend_jointly(self.attentions[0], self.norms[0](x), x, with_row)
        return self.ffns[0](self.norms[1](x), x), row


class DividedLayer(FusedLayer):
    """Attention over time, then over space, then the MLP; or joint attention.

    Args:
        dense: The layer.
        joint: All tokens attend to all, by the spatial attention's weights; the
            temporal attention is taken out (STTM: tokens of different frames no longer
            share places once they are merged).
    """
    order = ('self_attn', 'self_attn', 'ffn')  # with norms of their own

    def __init__(self, dense: BaseTransformerLayer, joint: bool) -> None:
        super().__init__(dense)
        self.joint = joint
        if joint:
            self.attentions[0] = nn.Identity()  # the spatial one keeps its name
        else:
            _fuse(self.attentions[0])
        _fuse(self.attentions[1])

    def forward(self, x: Tensor, num_frames: int,
                with_row: bool = False) -> tuple[Tensor, Tensor | None]:
        """Tokens (B, 1 + M, C) to the same.

        Args:
            x: The tokens, those of a clip time-major.
            num_frames: T, of which M is a multiple unless ``joint``.
            with_row: Whether the class token's attention (B, M) is wanted: that of
                each frame's copy to its frame, or of the one to all if ``joint``.
        """
        if self.joint:
            space = self.attentions[1]
            x, row = self._attend_jointly(space, space.norm(x), x, with_row)
        else:
            x = self._over_time(x, num_frames)
            x, row = self._over_space(x, num_frames, with_row)
        return self.ffns[0](x), row

    def _over_time(self, x: Tensor, num_frames: int) -> Tensor:
        """Each place attends over the frames; the class token is left alone."""
        time = self.attentions[0]
        grid = x[:, 1:].unflatten(1, (num_frames, -1))  # (B, T, N, C)
        rows = time.norm(grid).transpose(1, 2).flatten(0, 1)  # (B*N, T, C)
        out = time.dropout_layer(time.proj_drop(time.attn(rows)[0]))
        out = time.temporal_fc(out).unflatten(0, (len(x), -1)).transpose(1, 2)
        return torch.cat((x[:, :1], (grid + out).flatten(1, 2)), dim=1)

    def _over_space(self, x: Tensor, num_frames: int,
                    with_row: bool) -> tuple[Tensor, Tensor | None]:
        """Each frame attends with its copy of the class token; copies are averaged."""
        space = self.attentions[1]
        normed = space.norm(x)
        copies = normed[:, :1].expand(-1, num_frames, -1).unsqueeze(2)
        frames = torch.cat((copies, normed[:, 1:].unflatten(1, (num_frames, -1))), 2)
        out, row = space.attn(frames.flatten(0, 1), with_row)  # (B*T, 1 + N, C)
        out = space.dropout_layer(space.proj_drop(out)).unflatten(0, (len(x), -1))
        update = torch.cat((out[:, :, 0].mean(1, keepdim=True),
                            out[:, :, 1:].flatten(1, 2)), dim=1)
        if row is not None:
            row = row.view(len(x), -1)
        return x + update, row
