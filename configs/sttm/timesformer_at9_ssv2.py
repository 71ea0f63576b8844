# Table 4: one merge, within frames, before layer 9.
_base_ = './timesformer_15e_ssv2.py'
model = dict(
    backbone=dict(reducers=[dict(type='TokenMerging', before=9, scope='frame')]))
