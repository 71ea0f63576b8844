# ViT-B with both attentions on Something-Something V2 (Table 5), from the Kinetics-400
# model.
_base_ = [
    '../_base_/models/dvt_vit_base.py', '../_base_/datasets/sthv2_16_motion.py',
    '../_base_/schedules/dvt_vit_30e.py', '../_base_/default_runtime.py'
]
model = dict(
    cls_head=dict(num_classes=174),
    data_preprocessor=dict(blending=dict(num_classes=174)))
default_hooks = dict(check_load=dict(allow_reshaped=['cls_head.fc_cls']))
load_from = 'checkpoints/dvt_timesformer_stms_k400.pth'
