# 3 of 8 token frames, drawn at random.
_base_ = './mvit_stts.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='TemporalSelection', before=0, keep=0.375, strategy='random')
    ]))
