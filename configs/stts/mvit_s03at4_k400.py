# MViT-B16-S0.3^4 (Tables 1, 4): 7x7 of 14x14 places, before block 4.
_base_ = './mvit_k400.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='SpatialSelection', before=4, keep=0.3)
    ]))
