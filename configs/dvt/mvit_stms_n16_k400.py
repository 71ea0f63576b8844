# Figure 4a: N = 16.
_base_ = './mvit_stms_k400.py'
model = dict(backbone=dict(points=16))
