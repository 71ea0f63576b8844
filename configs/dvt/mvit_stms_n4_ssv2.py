# Figure 4a: N = 4.
_base_ = './mvit_stms_ssv2.py'
model = dict(backbone=dict(points=4))
load_from = 'checkpoints/dvt_mvit_stms_n4_k400.pth'
