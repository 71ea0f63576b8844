# timesformer_k400.py with 11 frames, every 23rd, over the time of 8 (Table 6):
# about the cost of the dense model.
_base_ = './timesformer_k400.py'
sampling = dict(clip_len=11, frame_interval=23)
train_pipeline, val_pipeline, test_pipeline = (
    [dict(step, **sampling) if step.type == 'SampleFrames' else step for step in steps]
    for steps in (_base_.train_pipeline, _base_.val_pipeline, _base_.test_pipeline))
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
model = dict(backbone=dict(num_frames=11))
# The image model knows no time: embeddings of more frames start at zero as well.
default_hooks = dict(check_load=dict(allow_reshaped=['backbone.time_embed']))
