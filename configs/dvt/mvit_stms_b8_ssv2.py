# Figure 4b: B = 8.
_base_ = './mvit_stms_ssv2.py'
model = dict(backbone=dict(sub_clips=8))
load_from = 'checkpoints/dvt_mvit_stms_b8_k400.pth'
