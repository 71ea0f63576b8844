# vit_small_k400.py with 13 frames, every 19th, over the time of 8 (Table 6):
# 226.6 GFLOPs in three crops, where the paper prints 164.
_base_ = './vit_small_k400.py'
sampling = dict(clip_len=13, frame_interval=19)
train_pipeline, val_pipeline, test_pipeline = (
    [dict(step, **sampling) if step.type == 'SampleFrames' else step for step in steps]
    for steps in (_base_.train_pipeline, _base_.val_pipeline, _base_.test_pipeline))
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
model = dict(backbone=dict(num_frames=13))
# The image model knows no time: embeddings of more frames start at zero as well.
default_hooks = dict(check_load=dict(allow_reshaped=['backbone.time_embed']))
