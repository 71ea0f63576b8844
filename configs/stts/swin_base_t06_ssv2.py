# VideoSwin-B-T0.6^0 on Something-Something V2 (Table 3): 10 of 16 token frames, in one
# window. Fine-tunes the dense model, swin_base_dense_ssv2.py's or a converted one.
_base_ = [
    '../_base_/models/swin_base.py', '../_base_/datasets/sthv2_32x2.py',
    '../_base_/schedules/stts_swin_20e.py', '../_base_/default_runtime.py'
]
model = dict(
    backbone=dict(
        window_size=(16, 7, 7),
        drop_path_rate=0.4,
        reducers=[dict(type='TemporalSelection', before=0, keep=0.625)]),
    cls_head=dict(num_classes=174, label_smooth_eps=0.1))
default_hooks = dict(sigma_decay=dict(type='SigmaDecayHook'))
load_from = 'checkpoints/swin_base_ssv2.pth'
