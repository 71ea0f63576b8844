# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""What all pictures of tools/visualize_tokens.py have in common."""
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
from _clips import Clip
from _keyframe_clip import KeyframeClip

STILLS, MOVING, VIDEO = ('.png', '.pdf', '.svg'), '.gif', '.mp4'


class Picture:
    """What is drawn: first the model runs within ``traces``, then comes ``look``.

    Attributes:
        suffixes: Files that it can be written to.
        tag: At the end of the names of its files.
        traces: What watches the model.
    """
    suffixes = (*STILLS, MOVING)
    tag = ''
    traces: Sequence[AbstractContextManager] = ()

    def look(self, clip: Clip | KeyframeClip, images: np.ndarray) -> None:
        """Take in what was seen of a clip and its frames (F, H, W, 3) in RGB."""
        raise NotImplementedError  # abstract

    def words(self) -> str:
        """It in words."""
        raise NotImplementedError  # abstract

    def draw(self, path: Path, heading: str, prediction: str) -> None:
        """Write it, with a heading and the prediction above."""
        raise NotImplementedError  # abstract
