# MViT-B with D-MS-A, from scratch (Table 2). It looks at no other frame, so that it
# needs no motion: a plain recogniser on the plain pipeline.
_base_ = [
    '../_base_/models/mvit_b16.py', '../_base_/datasets/kinetics400_16x4.py',
    '../_base_/schedules/mvit_scratch_200e.py', '../_base_/default_runtime.py'
]
model = dict(
    backbone=dict(type='DVTMViT', attention='ms'),
    cls_head=dict(with_cls_token=False))
