# T0.5^0 with frames drawn at random (Tables 1, 8).
_base_ = './mvit_k400.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='TemporalSelection', before=0, keep=0.5, strategy='random')
    ]))
