# 16 of the 8x8 places of every frame without anchors, each chosen by itself.
_base_ = './mvit_stts.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='SpatialSelection', before=0, keep=0.25, unit='token')
    ]))
