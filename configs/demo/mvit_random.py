# The same budget as mvit_stts.py, frames and regions drawn at random; trained alike.
_base_ = './mvit_stts.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='TemporalSelection', before=0, keep=0.375, strategy='random'),
        dict(type='SpatialSelection', before=1, keep=0.5625, strategy='random')
    ]))
