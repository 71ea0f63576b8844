# 8 frames (Table 5), from the image model: 4 token frames, two sub-clips.
_base_ = './timesformer_stms_ssv2.py'
sampling = dict(clip_len=8)
train_pipeline, val_pipeline, test_pipeline = (
    [dict(step, **sampling) if step.type == 'UniformSample' else step for step in steps]
    for steps in (_base_.train_pipeline, _base_.val_pipeline, _base_.test_pipeline))
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
model = dict(backbone=dict(num_frames=8, sub_clips=2))
# Where queries look, and how both attentions are fused, starts at random.
default_hooks = dict(check_load=dict(allow_reshaped=[], allow_missing=[
    'backbone.transformer_layers.layers.*.attn.*.choose.',
    'backbone.transformer_layers.layers.*.attn.multi_scale.pool.',
    'backbone.transformer_layers.layers.*.attn.fusion.', 'cls_head.']))
load_from = 'checkpoints/timesformer_in1k.pth'
