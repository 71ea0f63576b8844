# T0.8^0-S0.7^0 with frames and regions drawn at random (Table 1).
_base_ = './mvit_k400.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='TemporalSelection', before=0, keep=0.75, strategy='random'),
        dict(type='SpatialSelection', before=0, keep=0.7, strategy='random')
    ]))
