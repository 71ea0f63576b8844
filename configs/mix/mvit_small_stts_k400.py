# MViTv2-S, 5 of 8 token frames, then regions of 13x13 of 14x14 places, by learned
# scores (STTS). To be trained; it can start from these weights. Weights:
# https://download.openmmlab.com/mmaction/v1.0/recognition/mvit/converted/mvit-small-p244_16x4x1_kinetics400-rgb_20221021-9ebaaeed.pth
_base_ = ('mmaction::recognition/mvit/'
          'mvit-small-p244_32xb16-16x4x1-200e_kinetics400-rgb.py')
custom_imports = dict(imports=['mmaction_tokenreduce'], allow_failed_imports=False)
model = dict(
    backbone=dict(
        type='ReducedMViT',
        reducers=[
            dict(type='TemporalSelection', before=0, keep=0.625),
            dict(type='SpatialSelection', before=4, keep=0.863)
        ]))
default_hooks = dict(sigma_decay=dict(type='SigmaDecayHook'))
