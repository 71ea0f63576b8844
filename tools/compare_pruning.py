# Copyright (c) mmaction_tokenreduce authors. Apache-2.0.
"""Ways to prune an action detector compared on the moving actors, several seeds.

For each seed a dense model is trained, and from it one model for each way, dense once
more among them; the table gives the frame mAP of each (EVAD, Table 1, in small).
Results are written after every run, so that an interrupted comparison goes on where it
stopped.
"""
from _compare import Comparison

COMPARISON = Comparison(
    tool='compare_pruning.py', about=__doc__, prefix='evad', heading='model',
    metric='mAP/overall', data='moving_actors', parent='dense', ways={
        'dense': 'keep 1.0',
        'tuned': 'keep 1.0, trained on like the others',
        'moving_actors': 'keep 0.7: attention',
        'random': 'keep 0.7: random',
        'released': "keep 0.7: attention, `remap='released'`",
    })

if __name__ == '__main__':
    COMPARISON.main()
