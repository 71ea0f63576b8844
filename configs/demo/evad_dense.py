# EVAD in small on the moving actors with every token (keep 1.0), from scratch.
_base_ = [
    '../_base_/models/evad_vit_base.py', '../_base_/datasets/moving_actors.py',
    '../_base_/default_runtime.py'
]
model = dict(
    backbone=dict(
        img_size=128,  # a table of 8x8 positions, resized to 6x8
        embed_dims=96,
        depth=6,
        num_heads=4,
        num_frames=8,
        drop_path_rate=0.0,
        out_indices=(1, 2, 4, 5),
        reducers=[]),
    neck=[
        dict(type='KeyframePyramid', scales=(4, 2, 1, 0.5)),
        dict(type='mmdet.FPN', in_channels=[96] * 4, out_channels=64, num_outs=4)
    ],
    localizer=dict(
        num_proposals=12,
        num_stages=3,
        channels=64,
        dynamic_channels=16,
        head=dict(num_heads=4, feedforward_channels=256)),
    action_head=dict(
        in_channels=96,
        channels=96,
        depth=2,
        num_heads=4,
        num_classes=8,
        hidden_channels=192,
        drop_path=0.0,
        grid=(4, 6, 8)))
max_epochs = 8
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.01),
    paramwise_cfg=dict(flat_decay_mult=0.0),
    clip_grad=dict(max_norm=1.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.02, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=max_epochs,
         T_max=max_epochs, convert_to_iter_based=True)
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=2)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(checkpoint=dict(max_keep_ckpts=1, save_best=None))
auto_scale_lr = dict(enable=False, base_batch_size=16)
randomness = dict(seed=0)
