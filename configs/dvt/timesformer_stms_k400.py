# ViT-B with both attentions (Table 4), from the ImageNet-1K model of configs/sttm
# (timesformer_dense_k400.py says how it is made); the paper starts from ImageNet-21K.
_base_ = [
    '../_base_/models/dvt_vit_base.py', '../_base_/datasets/kinetics400_16x4_motion.py',
    '../_base_/schedules/dvt_vit_30e.py', '../_base_/default_runtime.py'
]
# Where queries look, and how both attentions are fused, starts at random.
default_hooks = dict(check_load=dict(allow_missing=[
    'backbone.transformer_layers.layers.*.attn.*.choose.',
    'backbone.transformer_layers.layers.*.attn.multi_scale.pool.',
    'backbone.transformer_layers.layers.*.attn.fusion.', 'cls_head.']))
load_from = 'checkpoints/timesformer_in1k.pth'
