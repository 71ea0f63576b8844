# mmaction2's own TimeSformer, what the speed of ours is measured against
# (tools/benchmark.py).
_base_ = './timesformer_dense_k400.py'
model = dict(backbone=dict(type='TimeSformer'))
