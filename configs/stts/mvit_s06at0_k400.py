# MViT-B16-S0.6^0 (Table 4): 43x43 of 56x56 places.
_base_ = './mvit_k400.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='SpatialSelection', before=0, keep=0.6)
    ]))
