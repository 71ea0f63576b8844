# EVAD, keep rate 0.6; queries of the keyframe count 2 times (Table 1g).
_base_ = './vit_base_ava.py'
model = dict(
    backbone=dict(reducers=[
        dict(
            type='KeyframePruning', within=block, keep=0.6, keyframe_weight=2.0)
        for block in (3, 6, 9)
    ]))
