# Table 4: one merge, within frames, before layer 3.
_base_ = './timesformer_15e_ssv2.py'
model = dict(
    backbone=dict(reducers=[dict(type='TokenMerging', before=3, scope='frame')]))
