# MViT-B16-T0.9^0-S0.9^4: 7 of 8 token frames, 13x13 of 14x14 places.
_base_ = './mvit_k400.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='TemporalSelection', before=0, keep=0.875),
        dict(type='SpatialSelection', before=4, keep=0.863)
    ]))
