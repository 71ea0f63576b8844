# MViT-B16-T0.8^0-S0.7^0 (Tables 1, 4): 6 of 8 token frames, 46x46 of 56x56 places.
_base_ = './mvit_k400.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='TemporalSelection', before=0, keep=0.75),
        dict(type='SpatialSelection', before=0, keep=0.7)
    ]))
