# timesformer_ssv2.py in 15 epochs, what the ablations are to be compared with.
_base_ = './timesformer_ssv2.py'
max_epochs = 15
param_scheduler = [
    dict(type='LinearLR', start_factor=1.0, end_factor=0.0, by_epoch=True, begin=0,
         end=max_epochs, convert_to_iter_based=True)
]
train_cfg = dict(max_epochs=max_epochs)
