# AVA with a short side of 256.
_base_ = './ava.py'
short_side = 256
train_pipeline = _base_.train_pipeline
train_pipeline[2].scale = (1333, short_side)
test_pipeline = train_pipeline
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
