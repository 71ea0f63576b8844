# MViT-B16-T0.6^0 (Table 4): 5 of 8 token frames.
_base_ = './mvit_k400.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='TemporalSelection', before=0, keep=0.625)
    ]))
