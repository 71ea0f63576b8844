# S0.5^0 without anchors (Table 6): of each frame the 39x39 tokens of highest score,
# wherever they are.
_base_ = './mvit_k400.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='SpatialSelection', before=0, keep=0.5, unit='token')
    ]))
