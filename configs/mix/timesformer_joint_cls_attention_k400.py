# TimeSformer with joint attention, of each frame the 144 of 196 places that the class
# token attends to most. No training needed. Weights:
# https://download.openmmlab.com/mmaction/v1.0/recognition/timesformer/timesformer_jointST_8xb8-8x32x1-15e_kinetics400-rgb/timesformer_jointST_8xb8-8x32x1-15e_kinetics400-rgb_20220815-8022d1c0.pth
_base_ = ('mmaction::recognition/timesformer/'
          'timesformer_jointST_8xb8-8x32x1-15e_kinetics400-rgb.py')
custom_imports = dict(imports=['mmaction_tokenreduce'], allow_failed_imports=False)
model = dict(
    backbone=dict(
        type='ReducedTimeSformer',
        reducers=[
            dict(type='SpatialSelection', before=3, keep=0.74, unit='token',
                 strategy='cls_attention')
        ]))
