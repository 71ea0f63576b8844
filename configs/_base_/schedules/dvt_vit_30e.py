# DVT's ViT-B, from an image model or from Kinetics-400: 30 epochs, 2.5 of them warm-up.
# The paper says no more than that its recipe is MViT's, which trains from scratch; this
# schedule is VideoSwin's for models that start from images, and our choice.
max_epochs = 30
warmup = 2.5

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05),  # the backbone's
    paramwise_cfg=dict(
        flat_decay_mult=0.0,  # no weight decay on 1-d parameters
        # mmengine skips that rule where a custom key matches
        custom_keys={
            'cls_head': dict(lr_mult=10.0),
            'head.fc_cls.bias': dict(lr_mult=10.0, decay_mult=0.0),
        }),
    clip_grad=dict(max_norm=1.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=True, begin=0, end=warmup,
         convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=warmup, end=max_epochs,
         convert_to_iter_based=True)
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=3)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=32)  # videos, augmented twice
