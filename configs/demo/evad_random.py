# evad_moving_actors.py with the tokens that stay drawn at random.
_base_ = './evad_moving_actors.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='KeyframePruning', within=block, keep=0.7, strategy='random')
        for block in (2, 4)
    ]))
