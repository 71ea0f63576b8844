# evad_moving_actors.py with a third pruning: 19 of 144 tokens are left beside the
# keyframe's 48.
_base_ = './evad_moving_actors.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='KeyframePruning', within=block, keep=0.7) for block in (1, 3, 4)
    ]))
