# STTS, Sec. 4.1, VideoSwin on Kinetics-400: 10 epochs, 0.8 of them warm-up; AdamW,
# learning rate 3e-4 for the selectors and 0.01 of that for the host; cosine.
_base_ = './stts_finetune_20e.py'  # its learning rates and decay, by name of parameter
max_epochs = 10
warmup = 0.8

optim_wrapper = dict(
    optimizer=dict(lr=3e-6),  # the host's
    paramwise_cfg=dict(
        custom_keys=dict(relative_position_bias_table=dict(decay_mult=0.0))),
    clip_grad=None)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, begin=0, end=warmup,
         convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=warmup, end=max_epochs,
         convert_to_iter_based=True)
]
train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=64)
