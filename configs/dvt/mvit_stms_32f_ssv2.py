# 32 frames, 16 token frames (Table 5).
_base_ = './mvit_stms_ssv2.py'
sampling = dict(clip_len=32)
train_pipeline, val_pipeline, test_pipeline = (
    [dict(step, **sampling) if step.type == 'UniformSample' else step for step in steps]
    for steps in (_base_.train_pipeline, _base_.val_pipeline, _base_.test_pipeline))
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
model = dict(backbone=dict(temporal_size=32))
load_from = 'checkpoints/dvt_mvit_stms_32f_k400.pth'
