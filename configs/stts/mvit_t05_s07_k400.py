# MViT-B16-T0.5^0-S0.7^4: 4 of 8 token frames, 12x12 of 14x14 places.
_base_ = './mvit_k400.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='TemporalSelection', before=0, keep=0.5),
        dict(type='SpatialSelection', before=4, keep=0.7367)
    ]))
