# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Cues of motion for deformable attention compared on the demo's data, several seeds.

For each seed and cue a small MViT with D-ST-A is trained from scratch (DVT, Table 1, in
small). Results are written after every run, so that an interrupted comparison goes on
where it stopped.
"""
from _compare import Comparison

COMPARISON = Comparison(
    tool='compare_cues.py', about=__doc__, prefix='dvt', heading='cue', ways={
        'motion': 'motion displacements',
        'rgb_average': 'averaged RGB',
        'rgb_difference': 'RGB differences',
        'rgb_residual': 'RGB residuals',
        'optical_flow': 'optical flow (DIS)',
    })

if __name__ == '__main__':
    COMPARISON.main()
