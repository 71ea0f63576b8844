# EVAD without pruning, JHMDB, split 1; boxes are not extended.
_base_ = './vit_base_jhmdb.py'
model = dict(
    backbone=dict(reducers=[]), action_head=dict(roi_extension=(0.0, 0.0)))
