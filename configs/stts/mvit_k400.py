# MViT-B16-T0.8^0-S0.9^4: 6 of 8 token frames before block 0, 13x13 of 14x14 places
# before block 4. Fine-tunes the dense model, which
#   tools/convert_checkpoint.py RELEASED DST --source slowfast_mvit
# makes of a PySlowFast checkpoint.
_base_ = [
    '../_base_/models/mvit_b16.py', '../_base_/datasets/kinetics400_16x4.py',
    '../_base_/schedules/stts_finetune_20e.py', '../_base_/default_runtime.py'
]
model = dict(
    backbone=dict(reducers=[
        dict(type='TemporalSelection', before=0, keep=0.75),
        dict(type='SpatialSelection', before=4, keep=0.863)
    ]))
default_hooks = dict(sigma_decay=dict(type='SigmaDecayHook'))
load_from = 'checkpoints/mvit_b16_k400.pth'
