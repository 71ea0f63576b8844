# mmaction2's own Video Swin, what the speed of ours is measured against
# (tools/benchmark.py).
_base_ = './swin_base_dense_k400.py'
model = dict(backbone=dict(type='SwinTransformer3D'))
