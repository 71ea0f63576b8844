# The decoder sees dropped tokens too, as of when they were dropped (Table 1d).
_base_ = './vit_base_ext0_224_ava.py'
model = dict(
    backbone=dict(return_dropped=True), action_head=dict(context='all'))
