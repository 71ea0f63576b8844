# VideoMAE ViT-B, three times the 0.7 of its tokens that receive most attention are
# kept: EVAD's pruning, but no keyframe is spared. No training needed. Weights:
# https://download.openmmlab.com/mmaction/v1.0/recognition/videomae/vit-base-p16_videomae-k400-pre_16x4x1_kinetics-400_20221013-860a3cd3.pth
_base_ = ('mmaction::recognition/videomae/'
          'vit-base-p16_videomae-k400-pre_16x4x1_kinetics-400.py')
custom_imports = dict(imports=['mmaction_tokenreduce'], allow_failed_imports=False)
model = dict(
    backbone=dict(
        type='ReducedViT',
        reducers=[
            dict(type='KeyframePruning', within=i, keep=0.7, unified=True)
            for i in (3, 6, 9)
        ]))
