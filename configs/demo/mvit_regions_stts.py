# 4x4 of the 8x8 places of every frame: the anchor with the best learned score.
_base_ = './mvit_stts.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='SpatialSelection', before=0, keep=0.25)
    ]))
