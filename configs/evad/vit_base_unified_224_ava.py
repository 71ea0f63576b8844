# Tokens of the keyframe are pruned as all others (Table 1c).
_base_ = './vit_base_ext0_224_ava.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='KeyframePruning', within=block, keep=0.7, unified=True)
        for block in (3, 6, 9)
    ]))
