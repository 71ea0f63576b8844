# MViT-B with both attentions on Diving-48 (Table 7), from the Kinetics-400 model; the
# paper starts from ImageNet-1K.
_base_ = [
    '../_base_/models/dvt_mvit_b16.py', '../_base_/datasets/diving48_16_motion.py',
    '../_base_/schedules/dvt_diving48.py', '../_base_/default_runtime.py'
]
model = dict(
    backbone=dict(attention='st+ms', fusion='mlp'),
    cls_head=dict(num_classes=48),
    data_preprocessor=dict(blending=dict(num_classes=48)))
default_hooks = dict(check_load=dict(allow_reshaped=['cls_head.fc_cls']))
load_from = 'checkpoints/dvt_mvit_stms_k400.pth'
