# 3 of 8 token frames, chosen by learned scores; nothing is cut from a frame.
_base_ = './mvit_stts.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='TemporalSelection', before=0, keep=0.375)
    ]))
