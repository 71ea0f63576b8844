# The dense model trained on as the pruning ones are: what that alone adds.
_base_ = './evad_dense.py'
max_epochs = 4
optim_wrapper = dict(optimizer=dict(lr=5e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.02, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=max_epochs,
         T_max=max_epochs, convert_to_iter_based=True)
]
train_cfg = dict(max_epochs=max_epochs)
load_from = 'work_dirs/compare_pruning/seed_0/dense/epoch_8.pth'
