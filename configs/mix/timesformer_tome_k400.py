# TimeSformer, half of each frame's tokens merge by ToMe's matching. Weights load, less
# the temporal attention of layers after the merge: train. Weights:
# https://download.openmmlab.com/mmaction/v1.0/recognition/timesformer/timesformer_divST_8xb8-8x32x1-15e_kinetics400-rgb/timesformer_divST_8xb8-8x32x1-15e_kinetics400-rgb_20220815-a4d0d01f.pth
_base_ = ('mmaction::recognition/timesformer/'
          'timesformer_divST_8xb8-8x32x1-15e_kinetics400-rgb.py')
custom_imports = dict(imports=['mmaction_tokenreduce'], allow_failed_imports=False)
model = dict(
    backbone=dict(
        type='ReducedTimeSformer',
        reducers=[
            dict(type='TokenMerging', before=6, scope='frame', strategy='bipartite')
        ]))
