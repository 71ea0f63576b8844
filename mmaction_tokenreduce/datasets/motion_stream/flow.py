# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Optical flow in place of motion vectors (DVT, Table 1: TV-L1)."""
from collections.abc import Callable

import cv2
import numpy as np

from .reader import grid_size


def _tvl1() -> cv2.DenseOpticalFlow:
    return cv2.optflow.DualTVL1OpticalFlow_create()


def _dis() -> cv2.DenseOpticalFlow:
    return cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)


FLOW_METHODS: dict[str, Callable[[], cv2.DenseOpticalFlow]] = dict(tvl1=_tvl1, dis=_dis)


def flow_fields(imgs: list[np.ndarray], frame_inds: np.ndarray, clip_len: int,
                spacing: float, method: str) -> np.ndarray:
    """Displacement of each frame's content to the sampled frame before it.

    Args:
        imgs (list[np.ndarray]): F frames, each (H, W, 3) uint8 RGB.
        frame_inds (np.ndarray): (F,) their numbers; between equal ones there is none.
        clip_len (int): Frames of a clip; a clip's first frame has none.
        spacing (float): Distance of the grid's points in px.
        method (str): A name of `FLOW_METHODS`.

    Returns:
        np.ndarray: (F, h, w, 2) float32 px, the flow's mean over each cell.
    """
    engine = FLOW_METHODS[method]()
    inds = np.asarray(frame_inds).ravel()
    rows, cols = grid_size(*imgs[0].shape[:2], spacing)
    fields = np.zeros((len(imgs), rows, cols, 2), np.float32)
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in imgs]
    for at in range(len(imgs)):
        if at % clip_len and inds[at] != inds[at - 1]:
            flow = engine.calc(grey[at], grey[at - 1], None)
            fields[at] = cv2.resize(flow, (cols, rows), interpolation=cv2.INTER_AREA)
    return fields
