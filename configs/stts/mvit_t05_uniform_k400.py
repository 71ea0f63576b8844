# T0.5^0 with frames at equal distance; the paper has no figure for it.
_base_ = './mvit_k400.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='TemporalSelection', before=0, keep=0.5, strategy='uniform')
    ]))
