# Video Swin-T, 10 of 16 token frames at equal distance. No training needed. Weights:
# https://download.openmmlab.com/mmaction/v1.0/recognition/swin/swin-tiny-p244-w877_in1k-pre_8xb8-amp-32x2x1-30e_kinetics400-rgb/swin-tiny-p244-w877_in1k-pre_8xb8-amp-32x2x1-30e_kinetics400-rgb_20220930-241016b2.pth
_base_ = ('mmaction::recognition/swin/'
          'swin-tiny-p244-w877_in1k-pre_8xb8-amp-32x2x1-30e_kinetics400-rgb.py')
custom_imports = dict(imports=['mmaction_tokenreduce'], allow_failed_imports=False)
model = dict(
    backbone=dict(
        type='ReducedSwin3D',
        reducers=[
            dict(type='TemporalSelection', before=0, keep=0.625, strategy='uniform')
        ]))
