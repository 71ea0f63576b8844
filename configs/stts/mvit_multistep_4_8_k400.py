# Two steps (Table 5), before blocks 4 and 8: 5, then 2 of 8 token frames; 11x11,
# then 9x9 of 14x14 places.
_base_ = './mvit_k400.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='TemporalSelection', before=4, keep=0.625),
        dict(type='TemporalSelection', before=8, keep=0.4),
        dict(type='SpatialSelection', before=4, keep=0.7),
        dict(type='SpatialSelection', before=8, keep=0.7)
    ]))
