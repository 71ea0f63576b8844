# Two steps (Table 5), before blocks 0 and 4: 7, then 4 of 8 token frames; 53x53 of
# 56x56, then 11x11 of 14x14 places. The ratios are those printed.
_base_ = './mvit_k400.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='TemporalSelection', before=0, keep=0.9),
        dict(type='TemporalSelection', before=4, keep=0.7),
        dict(type='SpatialSelection', before=0, keep=0.9),
        dict(type='SpatialSelection', before=4, keep=0.7)
    ]))
