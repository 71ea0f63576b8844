# Table 4: merging before layers 3 and 6.
_base_ = './timesformer_15e_ssv2.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='TokenMerging', before=3, scope='frame'),
        dict(type='TokenMerging', before=6, scope='clip')
    ]))
