# T0.6^0-S0.9^4 with frames and regions drawn at random (Table 1).
_base_ = './mvit_k400.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='TemporalSelection', before=0, keep=0.625, strategy='random'),
        dict(type='SpatialSelection', before=4, keep=0.863, strategy='random')
    ]))
