# 4x4 of the 8x8 places of every frame: an anchor drawn at random.
_base_ = './mvit_stts.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='SpatialSelection', before=0, keep=0.25, strategy='random')
    ]))
