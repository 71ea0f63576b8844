# Tokens of other frames are dropped at random, before the encoder (Table 1b): 1162 of
# 1568 stay, as many as the paper's 158.9 GFLOPs take, which are 0.7 of each other frame
# (138 of 196 places) and the keyframe.
_base_ = './vit_base_ext0_224_ava.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='KeyframePruning', before=0, keep=0.741, strategy='random')
    ]))
