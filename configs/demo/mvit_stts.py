# T0.4^0-S0.6^1: 3 of 8 token frames, then 6x6 of their 8x8 places, chosen by learned
# scores; fine-tunes the dense model.
_base_ = './mvit_dense.py'
max_epochs = 3
model = dict(
    backbone=dict(reducers=[
        dict(type='TemporalSelection', before=0, keep=0.375),
        dict(type='SpatialSelection', before=1, keep=0.5625)
    ]))
optim_wrapper = dict(
    optimizer=dict(lr=5e-4),
    paramwise_cfg=dict(custom_keys=dict(score_net=dict(lr_mult=4.0))))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=max_epochs,
         T_max=max_epochs, convert_to_iter_based=True)
]
train_cfg = dict(max_epochs=max_epochs, val_interval=1)
default_hooks = dict(sigma_decay=dict(type='SigmaDecayHook'))
load_from = 'work_dirs/demo/mvit_dense/epoch_4.pth'
