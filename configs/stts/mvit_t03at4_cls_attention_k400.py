# T0.3^4 with the frames that the class token attends to most (Table 1).
_base_ = './mvit_k400.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='TemporalSelection', before=4, keep=0.3, strategy='cls_attention')
    ]))
