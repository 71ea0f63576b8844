# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Displacement fields in the shape that models take."""
import cv2
import numpy as np
from mmaction.registry import TRANSFORMS
from mmcv.transforms import BaseTransform

from .follow import check_in_step


def resample(field: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Bring fields to a grid: means where it is coarser, else linear.

    Args:
        field (np.ndarray): (F, h, w, 2).
        grid (tuple[int, int]): h', w'.

    Returns:
        np.ndarray: (F, h', w', 2) float32.
    """
    field = np.ascontiguousarray(field, np.float32)
    rows, cols = grid
    if field.shape[1:3] == (rows, cols):
        return field
    result = np.empty((len(field), rows, cols, 2), np.float32)
    coarser = rows <= field.shape[1] and cols <= field.shape[2]
    method = cv2.INTER_AREA if coarser else cv2.INTER_LINEAR
    for source, target in zip(field, result, strict=True):
        target[:] = cv2.resize(source, (cols, rows), interpolation=method)
    return result


@TRANSFORMS.register_module()
class FormatMotion(BaseTransform):
    """Bring ``motion`` to (clips, 2, frames, h, w) float16.

    Clips are counted as FormatShape does it for frames: crops times sampled clips. The
    vectors stay in px of the image. Goes after the last FollowMotion and before
    FormatShape; collect with
    ``PackActionInputs(collect_keys=('imgs', 'motion'))``.

    Required keys: ``motion``, ``motion_shape``, ``imgs``, ``img_shape``, ``clip_len``
    and ``num_clips``.

    Args:
        grid (tuple[int, int], optional): Rows and columns of the fields.
        stride (int, optional): In place of it, px of the final image a cell.

    Raises:
        ValueError: If not exactly one of `grid` and `stride` is given, or one is below
            1.
    """

    def __init__(self, grid: tuple[int, int] | None = None,
                 stride: int | None = None) -> None:
        if (grid is None) == (stride is None):
            raise ValueError('FormatMotion takes grid or stride, and one of them, got '
                             f'grid={grid}, stride={stride}')
        if grid is not None and (len(grid) != 2 or min(grid) < 1):
            raise ValueError(
                f'grid of FormatMotion must be (rows, columns), got {grid}')
        if stride is not None and stride < 1:
            raise ValueError(f'stride of FormatMotion must be at least 1, got {stride}')
        self.grid, self.stride = grid, stride

    def transform(self, results: dict) -> dict:
        """Bring the fields into shape.

        Args:
            results (dict): The sample.

        Returns:
            dict: The sample.

        Raises:
            ValueError: If a transform outside of FollowMotion moved the frames, or the
                image is no multiple of `stride`.
        """
        check_in_step(results)
        height, width = results['img_shape']
        grid = self.grid
        if grid is None:
            if height % self.stride or width % self.stride:
                raise ValueError(f'the image of {height}x{width} px is no multiple of '
                                 f'stride={self.stride} of FormatMotion')
            grid = height // self.stride, width // self.stride
        field = resample(results['motion'], tuple(grid))
        field = field.reshape(-1, results['clip_len'], *grid, 2)
        results['motion'] = np.ascontiguousarray(
            field.transpose(0, 4, 1, 2, 3)).astype(np.float16)
        results.update(results.pop('motion_geometry', {}))
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(grid={self.grid}, stride={self.stride})'
