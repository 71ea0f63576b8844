# As many tokens as vit_merged.py, but the others are dropped, drawn at random: 32 of
# the 64 places of each frame are kept, then 16 of them.
_base_ = './vit_tuned.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='SpatialSelection', before=2, anchor=(4, 8), unit='token',
             strategy='random'),
        dict(type='SpatialSelection', before=3, anchor=(4, 4), unit='token',
             strategy='random')
    ]))
