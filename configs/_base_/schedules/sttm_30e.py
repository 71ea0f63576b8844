# STTM, Sec. 4.2: 30 epochs of AdamW, learning rate 0.005 that falls linearly to 0,
# weight decay 1e-4, momentum 0.9 (AdamW's first beta). 0.005 is what the paper prints;
# TimeSformer's recipe has the same three figures with SGD, and AdamW is commonly run at
# a tenth or less: lower it if the loss does not fall. The paper names no batch size; 64
# is that of mmaction2's TimeSformer.
max_epochs = 30

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='AdamW', lr=0.005, betas=(0.9, 0.999), weight_decay=1e-4),
    paramwise_cfg=dict(  # as TimeSformer's recipe
        custom_keys={
            'backbone.cls_token': dict(decay_mult=0.0),
            'backbone.pos_embed': dict(decay_mult=0.0),
            'backbone.time_embed': dict(decay_mult=0.0),
        }))
param_scheduler = [
    dict(type='LinearLR', start_factor=1.0, end_factor=0.0, by_epoch=True, begin=0,
         end=max_epochs, convert_to_iter_based=True)
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=3)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=64)
