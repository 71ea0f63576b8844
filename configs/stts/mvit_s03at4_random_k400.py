# S0.3^4 with regions drawn at random (Table 1).
_base_ = './mvit_k400.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='SpatialSelection', before=4, keep=0.3, strategy='random')
    ]))
