# EVAD without pruning, short side 224; boxes are not extended.
_base_ = './vit_base_224_ava.py'
model = dict(
    backbone=dict(reducers=[]), action_head=dict(roi_extension=(0.0, 0.0)))
