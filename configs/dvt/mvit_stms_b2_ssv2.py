# Figure 4b: B = 2.
_base_ = './mvit_stms_ssv2.py'
model = dict(backbone=dict(sub_clips=2))
load_from = 'checkpoints/dvt_mvit_stms_b2_k400.pth'
