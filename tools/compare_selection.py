# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Ways to select, compared at the same budget on the demo's data, over several seeds.

For each seed a dense model is trained, and from it one model for each way; the table
gives top-1 of each (STTS, Tables 1 and 6, in small). Results are written after every
run, so that an interrupted comparison goes on where it stopped.
"""
from _compare import Comparison

COMPARISON = Comparison(
    tool='compare_selection.py', about=__doc__, prefix='mvit', heading='selection',
    parent='dense', ways={
        'dense': 'dense',
        'frames_stts': '3 of 8 frames: learned',
        'frames_gumbel': '3 of 8 frames: Gumbel-softmax',
        'frames_uniform': '3 of 8 frames: uniform',
        'frames_random': '3 of 8 frames: random',
        'regions_stts': '4x4 of 8x8 places: learned, anchors',
        'regions_anchor_score': '4x4 of 8x8 places: learned, anchors, mean features',
        'regions_token': '16 of 8x8 places: learned, no anchors',
        'regions_random': '4x4 of 8x8 places: random anchors',
    })

if __name__ == '__main__':
    COMPARISON.main()
