# Figure 4a: N = 16.
_base_ = './mvit_stms_ssv2.py'
model = dict(backbone=dict(points=16))
load_from = 'checkpoints/dvt_mvit_stms_n16_k400.pth'
