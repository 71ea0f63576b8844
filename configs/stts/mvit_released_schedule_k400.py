# mvit_k400.py with the learning rates of the released code.
_base_ = [
    '../_base_/models/mvit_b16.py', '../_base_/datasets/kinetics400_16x4.py',
    '../_base_/schedules/stts_released_20e.py', '../_base_/default_runtime.py'
]
model = dict(
    backbone=dict(reducers=[
        dict(type='TemporalSelection', before=0, keep=0.75),
        dict(type='SpatialSelection', before=4, keep=0.863)
    ]))
default_hooks = dict(sigma_decay=dict(type='SigmaDecayHook'))
load_from = 'checkpoints/mvit_b16_k400.pth'
