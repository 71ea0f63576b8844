# VideoSwin-B-T0.6^0: 10 of 16 token frames. Fine-tunes the dense model: VideoSwin's
# own, by tools/convert_checkpoint.py, mmaction2's, or swin_base_dense_k400.py's.
_base_ = [
    '../_base_/models/swin_base.py', '../_base_/datasets/kinetics400_32x2.py',
    '../_base_/schedules/stts_swin_10e.py', '../_base_/default_runtime.py'
]
model = dict(
    backbone=dict(reducers=[dict(type='TemporalSelection', before=0, keep=0.625)]))
default_hooks = dict(sigma_decay=dict(type='SigmaDecayHook'))
load_from = 'checkpoints/swin_base_k400.pth'
