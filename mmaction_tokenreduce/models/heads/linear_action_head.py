# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Names the actions of actors from their own features alone (EVAD, Table 1a, linear).

Legend: B clips, C channels, N boxes of a clip, K actions.
"""
from mmaction.registry import MODELS
from torch import Tensor, nn

from ...layers import ActorPooling, FastLinear, restore_tokens
from ..token_sequence import EncodedClip
from .action_head import ActionHead


@MODELS.register_module()
class LinearActionHead(ActionHead):
    """Pools actors from the restored clip and classifies them with one linear layer.

    Dropped places are zeros, as in the paper's text.

    Args:
        in_channels: C.
        num_classes: K, without mmaction2's unused column 0.
        stride: Pixels per token.
        roi_extension: Shares of width and height that boxes are extended by.
        loss_weight: Of the loss.
        multilabel: See :class:`ActionHead`.

    Raises:
        ValueError: If an argument is not allowed.
    """

    def __init__(self,
                 in_channels: int = 768,
                 num_classes: int = 80,
                 stride: int = 16,
                 roi_extension: tuple[float, float] = (0.4, 0.2),
                 loss_weight: float = 12.0,
                 multilabel: bool = True) -> None:
        super().__init__(num_classes, loss_weight, multilabel)
        try:
            self.pooling = ActorPooling(roi_extension, stride)
        except ValueError as error:
            raise ValueError(f'LinearActionHead: {error}') from error
        self.classifier = FastLinear(in_channels, num_classes)

    def init_weights(self) -> None:
        """Set the initial values."""
        super().init_weights()
        nn.init.xavier_uniform_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, clip: EncodedClip, boxes: Tensor, sizes: Tensor,
                all_depths: bool = False) -> list[Tensor]:
        """See :meth:`ActionHead.forward`; there is one classifier."""
        tokens = clip.tokens
        count = clip.thw[0] * clip.thw[1] * clip.thw[2]
        restored = restore_tokens(tokens, clip.places, count,
                                  tokens.new_zeros(tokens.shape[-1]))
        return [self.classifier(self.pooling(restored, clip.thw, boxes, sizes))]
