# MViT-B with D-ST-A and D-MS-A, fused by a linear layer (Table 2).
_base_ = './mvit_st_ssv2.py'
model = dict(backbone=dict(attention='st+ms', fusion='linear'))
load_from = 'checkpoints/dvt_mvit_stms_linear_k400.pth'
