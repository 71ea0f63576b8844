# MViT-B16-T0.4^0-S0.6^4: 3 of 8 token frames, 11x11 of 14x14 places.
_base_ = './mvit_k400.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='TemporalSelection', before=0, keep=0.375),
        dict(type='SpatialSelection', before=4, keep=0.6174)
    ]))
