# MViT-B with D-ST-A and D-MS-A, fused by a linear layer (Table 2).
_base_ = './mvit_st_k400.py'
model = dict(backbone=dict(attention='st+ms', fusion='linear'))
