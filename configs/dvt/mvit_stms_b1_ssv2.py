# Figure 4b: B = 1.
_base_ = './mvit_stms_ssv2.py'
model = dict(backbone=dict(sub_clips=1))
load_from = 'checkpoints/dvt_mvit_stms_b1_k400.pth'
