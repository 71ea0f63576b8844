# Table 5, "global": over the clip without merging in frames first. The paper does not
# say where; here in the place of the first merge, once.
_base_ = './timesformer_15e_ssv2.py'
model = dict(
    backbone=dict(reducers=[dict(type='TokenMerging', before=6, scope='clip')]))
