# Figure 4a: N = 16.
_base_ = './mvit_stms_ssv2.py'
model = dict(backbone=dict(points=16))
