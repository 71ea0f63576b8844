# MViT-B with D-ST-A and D-MS-A, fused by an MLP (Table 2).
_base_ = './mvit_st_ssv2.py'
model = dict(backbone=dict(attention='st+ms', fusion='mlp'))
load_from = 'checkpoints/dvt_mvit_stms_k400.pth'
