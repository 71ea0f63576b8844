# VideoSwin-B-T0.7^0 on Something-Something V2 (Table 3): 11 of 16 token frames.
_base_ = './swin_base_t06_ssv2.py'
model = dict(
    backbone=dict(reducers=[dict(type='TemporalSelection', before=0, keep=0.7)]))
