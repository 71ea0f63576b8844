# Figure 4a: N = 4.
_base_ = './mvit_stms_ssv2.py'
model = dict(backbone=dict(points=4))
