# STTS, Sec. 4.1, VideoSwin on Something-Something V2: as on Kinetics-400, 20 epochs.
_base_ = './stts_swin_10e.py'
max_epochs = 20
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, begin=0, end=0.8,
         convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0.8, end=max_epochs,
         convert_to_iter_based=True)
]
train_cfg = dict(max_epochs=max_epochs)
