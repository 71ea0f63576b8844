# ViT-B with both attentions on Diving-48 (Table 7), from the image model.
_base_ = [
    '../_base_/models/dvt_vit_base.py', '../_base_/datasets/diving48_16_motion.py',
    '../_base_/schedules/dvt_vit_30e.py', '../_base_/default_runtime.py'
]
model = dict(
    cls_head=dict(num_classes=48),
    data_preprocessor=dict(blending=dict(num_classes=48)))
# Where queries look, and how both attentions are fused, starts at random.
default_hooks = dict(check_load=dict(allow_missing=[
    'backbone.transformer_layers.layers.*.attn.*.choose.',
    'backbone.transformer_layers.layers.*.attn.multi_scale.pool.',
    'backbone.transformer_layers.layers.*.attn.fusion.', 'cls_head.']))
load_from = 'checkpoints/timesformer_in1k.pth'
