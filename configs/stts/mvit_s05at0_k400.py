# MViT-B16-S0.5^0 (Tables 1, 6): 39x39 of 56x56 places.
_base_ = './mvit_k400.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='SpatialSelection', before=0, keep=0.5)
    ]))
