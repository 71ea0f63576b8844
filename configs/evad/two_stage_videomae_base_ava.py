# mmaction2's two-stage detector on VideoMAE ViT-B, AVA-Kinetics, with the tokens of its
# backbone pruned as in EVAD. The head reads the restored map, in which dropped places
# hold their value of when they were dropped. Persons come from mmaction2's proposals.
_base_ = ('mmaction::detection/videomae/vit-base-p16_videomae-k400-pre_8xb8-16x4x1-20e-'
          'adamw_ava-kinetics-rgb.py')
custom_imports = dict(imports=['mmaction_tokenreduce'], allow_failed_imports=False)
model = dict(
    backbone=dict(
        type='mmaction.ReducedViT',
        reducers=[dict(type='KeyframePruning', within=i, keep=0.7) for i in (3, 6, 9)]))
