# Tokens of other frames are dropped at random, before the encoder (Table 1b): 0.7 of
# them stay, with the keyframe's 0.7375 of all.
_base_ = './vit_base_ext0_224_ava.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='KeyframePruning', before=0, keep=0.7375, strategy='random')
    ]))
