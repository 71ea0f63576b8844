# STTS, Sec. 4.1: fine-tune a dense model for 20 epochs, 3 of them warm-up; AdamW,
# learning rate 1e-4 for the selectors and 0.01 of that for the host; cosine.
backbone_lr = 1e-6
selector = dict(lr_mult=100.0)
selector_1d = dict(lr_mult=100.0, decay_mult=0.0)

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=backbone_lr, weight_decay=0.05),
    paramwise_cfg=dict(
        flat_decay_mult=0.0,  # no weight decay on 1-d parameters
        # mmengine skips that rule where a custom key matches, hence their names.
        custom_keys={
            'score_net': selector,
            'score_net.norm': selector_1d,
            'score_net.embed.bias': selector_1d,
            'score_net.head.bias': selector_1d,  # the paper's score network
            'score_net.head.0.bias': selector_1d,
            'score_net.head.2.bias': selector_1d,
            'score_net.head.4.bias': selector_1d,
        }),
    clip_grad=dict(max_norm=1.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, begin=0, end=3,
         convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=17, by_epoch=True, begin=3, end=20,
         convert_to_iter_based=True)
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=20, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

auto_scale_lr = dict(enable=False, base_batch_size=8)  # videos, 2 clips of each
