# Table 3: 0.6 of the tokens merged away, twice.
_base_ = './timesformer_15e_ssv2.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='TokenMerging', before=6, scope='frame', ratio=0.6),
        dict(type='TokenMerging', before=9, scope='clip', ratio=0.6)
    ]))
