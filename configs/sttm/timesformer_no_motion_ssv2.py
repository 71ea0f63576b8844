# Table 1: appearance alone, without positions and the layer that fuses them in.
_base_ = './timesformer_15e_ssv2.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='TokenMerging', before=6, scope='frame', motion=False),
        dict(type='TokenMerging', before=9, scope='clip', motion=False)
    ]))
