# MViT-B with D-ST-A, from scratch (Table 2).
_base_ = [
    '../_base_/models/dvt_mvit_b16.py', '../_base_/datasets/kinetics400_16x4_motion.py',
    '../_base_/schedules/mvit_scratch_200e.py', '../_base_/default_runtime.py'
]
