# DVT on Something-Something V2, from the Kinetics-400 model: 100 epochs, 30 of them
# warm-up. The paper says no more than that its recipe is MViT's. The figures are those
# of mmaction2's mvit-small-p244_k400-pre_16xb16-u16-100e_sthv2-rgb.py, with the cosine
# ending at epoch 100 and with the clipping of its Kinetics-400 recipe.
base_lr = 1.6e-3  # for 256 clips in a batch: 128 videos, augmented twice

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=base_lr, weight_decay=0.05),
    paramwise_cfg=dict(flat_decay_mult=0.0),
    clip_grad=dict(max_norm=1.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=True, begin=0, end=30,
         convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=70, eta_min=base_lr / 100, by_epoch=True,
         begin=30, end=100, convert_to_iter_based=True)
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=100, val_interval=3)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=128)
