# EVAD's recipe for AVA: 12 epochs of AdamW from a VideoMAE fine-tuned on Kinetics,
# batch 16; 2 epochs of warm-up, then a tenth of the rate from epoch 5 and again from
# epoch 8. Stages and action head learn 8 times as fast as encoder, pyramid and
# proposals; norms, biases and the mask token do not decay. No clipping of gradients.
max_epochs = 12

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='FlatDecayConstructor',
    optimizer=dict(type='AdamW', lr=2.5e-5, weight_decay=1e-4),
    paramwise_cfg=dict(
        flat_decay_mult=0.0,
        custom_keys={
            'localizer.stages': dict(lr_mult=8.0),
            'action_head': dict(lr_mult=8.0),
            'action_head.mask_token': dict(lr_mult=8.0, decay_mult=0.0),
        }))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=True, begin=0, end=2,
         convert_to_iter_based=True),
    dict(type='MultiStepLR', milestones=[5, 8], gamma=0.1, by_epoch=True)
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=16)
