# S0.5^0 with regions drawn at random (Tables 1, 6).
_base_ = './mvit_k400.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='SpatialSelection', before=0, keep=0.5, strategy='random')
    ]))
