# VideoSwin-B on Something-Something V2, keeping every token: 16 token frames are one
# window. Starts from the Kinetics-400 model; 60 epochs.
_base_ = [
    '../_base_/models/swin_base.py', '../_base_/datasets/sthv2_32x2.py',
    '../_base_/schedules/swin_30e.py', '../_base_/default_runtime.py'
]
max_epochs = 60
warmup = 2.5
model = dict(
    backbone=dict(window_size=(16, 7, 7), drop_path_rate=0.4),
    cls_head=dict(num_classes=174, label_smooth_eps=0.1))
optim_wrapper = dict(optimizer=dict(lr=3e-5))  # the backbone's
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=True, begin=0, end=warmup,
         convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=warmup, end=max_epochs,
         convert_to_iter_based=True)
]
train_cfg = dict(max_epochs=max_epochs)
# Head and position biases are of other sizes there, and start anew.
default_hooks = dict(
    check_load=dict(allow_reshaped=['cls_head.fc_cls', 'backbone.layers.']))
load_from = 'checkpoints/swin_base_k400.pth'
