# ViT-S of STTM: vit_base.py of half the width. 21.82 M parameters, 56.5 GFLOPs at
# 8x224x224.
_base_ = './vit_base.py'
model = dict(
    backbone=dict(embed_dims=384, num_heads=6), cls_head=dict(in_channels=384))
