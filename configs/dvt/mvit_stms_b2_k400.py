# Figure 4b: B = 2.
_base_ = './mvit_stms_k400.py'
model = dict(backbone=dict(sub_clips=2))
