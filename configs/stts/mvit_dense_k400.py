# The host of STTS, MViT-B16 16x4, keeping every token: 70.80 GFLOPs.
_base_ = [
    '../_base_/models/mvit_b16.py', '../_base_/datasets/kinetics400_16x4.py',
    '../_base_/schedules/mvit_scratch_200e.py', '../_base_/default_runtime.py'
]
