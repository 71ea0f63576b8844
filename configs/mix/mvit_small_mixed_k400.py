# MViTv2-S, 6 of 8 token frames at equal distance, then of each frame the region of
# 12x12 of 14x14 places that the class token attends to most. No training needed.
# Weights:
# https://download.openmmlab.com/mmaction/v1.0/recognition/mvit/converted/mvit-small-p244_16x4x1_kinetics400-rgb_20221021-9ebaaeed.pth
_base_ = ('mmaction::recognition/mvit/'
          'mvit-small-p244_32xb16-16x4x1-200e_kinetics400-rgb.py')
custom_imports = dict(imports=['mmaction_tokenreduce'], allow_failed_imports=False)
model = dict(
    backbone=dict(
        type='ReducedMViT',
        reducers=[
            dict(type='TemporalSelection', before=0, keep=0.75, strategy='uniform'),
            dict(type='SpatialSelection', before=4, keep=0.74, strategy='cls_attention')
        ]))
