# Figure 4b: B = 1.
_base_ = './mvit_stms_k400.py'
model = dict(backbone=dict(sub_clips=1))
