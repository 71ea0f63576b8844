# MViT-B16-T0.3^4 (Tables 1, 4): 2 of 8 token frames, before block 4.
_base_ = './mvit_k400.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='TemporalSelection', before=4, keep=0.3)
    ]))
