# Table 5, "spatial": both merges within frames.
_base_ = './timesformer_15e_ssv2.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='TokenMerging', before=6, scope='frame'),
        dict(type='TokenMerging', before=9, scope='frame')
    ]))
