# S0.5^0 with one score an anchor, of its mean feature (Table 6), in place of the mean
# of its tokens' scores.
_base_ = './mvit_k400.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='SpatialSelection', before=0, keep=0.5, score='anchor')
    ]))
