# EVAD without pruning, short side 288; boxes are not extended.
_base_ = './vit_base_ava.py'
model = dict(
    backbone=dict(reducers=[]), action_head=dict(roi_extension=(0.0, 0.0)))
