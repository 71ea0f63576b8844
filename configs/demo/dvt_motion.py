# D-ST-A led by the motion of the compressed stream, from scratch.
_base_ = [
    '../_base_/models/dvt_demo.py', '../_base_/datasets/moving_shapes_motion.py',
    '../_base_/default_runtime.py'
]
max_epochs = 2
# In the order of the files each batch holds two clips of every class; see vit_dense.py.
train_dataloader = dict(sampler=dict(shuffle=False))
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.01),
    # What tells motions apart is small in the mean of all tokens: the head must grow.
    paramwise_cfg=dict(
        flat_decay_mult=0.0,
        custom_keys={'cls_head.fc_cls.weight': dict(lr_mult=10.0)}),
    clip_grad=dict(max_norm=1.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.02, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=max_epochs,
         T_max=max_epochs, convert_to_iter_based=True)
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(checkpoint=dict(max_keep_ckpts=1, save_best=None))
auto_scale_lr = dict(enable=False, base_batch_size=16)
randomness = dict(seed=0)
