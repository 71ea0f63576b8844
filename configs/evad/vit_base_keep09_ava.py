# EVAD, short side 288, keep rate 0.9.
_base_ = './vit_base_ava.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='KeyframePruning', within=block, keep=0.9)
        for block in (3, 6, 9)
    ]))
