# Three steps (Table 5), before blocks 0, 4 and 8: 7, 6, 4 of 8 token frames; 53x53
# of 56x56, then 13x13, 11x11 of 14x14 places.
_base_ = './mvit_k400.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='TemporalSelection', before=0, keep=0.9),
        dict(type='TemporalSelection', before=4, keep=0.9),
        dict(type='TemporalSelection', before=8, keep=0.7),
        dict(type='SpatialSelection', before=0, keep=0.9),
        dict(type='SpatialSelection', before=4, keep=0.9),
        dict(type='SpatialSelection', before=8, keep=0.8)
    ]))
