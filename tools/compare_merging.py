# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Merging tokens compared with dropping them on the demo's data, over several seeds.

For each seed a dense model is trained, and from it one model for each way, dense once
more among them; all but the dense ones leave equally many tokens to every layer (STTM,
Table 1 and Sec. 4.4, in small). Results are written after every run, so that an
interrupted comparison goes on where it stopped.
"""
from _compare import Comparison

COMPARISON = Comparison(
    tool='compare_merging.py', about=__doc__, prefix='vit', heading='model',
    parent='dense', ways={
        'dense': 'dense',
        'tuned': 'dense, trained on like the others',
        'merged': 'merged: orthogonal, motion',
        'merged_no_motion': 'merged: orthogonal, no motion',
        'merged_random': 'merged: random, motion',
        'dropped': 'dropped at random',
    })

if __name__ == '__main__':
    COMPARISON.main()
