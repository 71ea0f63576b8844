# MViT-B with D-MS-A (Table 2). The pipeline's fields are not read.
_base_ = './mvit_st_ssv2.py'
model = dict(backbone=dict(attention='ms'))
load_from = 'checkpoints/dvt_mvit_ms_k400.pth'
