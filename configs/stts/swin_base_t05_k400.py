# VideoSwin-B-T0.5^0: 9 of 16 token frames.
_base_ = './swin_base_t06_k400.py'
model = dict(
    backbone=dict(reducers=[dict(type='TemporalSelection', before=0, keep=0.5625)]))
