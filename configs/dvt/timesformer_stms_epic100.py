# ViT-B with both attentions on EPIC-KITCHENS-100, verb and noun (Table 6), from the
# Kinetics-400 model.
_base_ = [
    '../_base_/models/dvt_vit_base.py', '../_base_/datasets/epic100_16_motion.py',
    '../_base_/schedules/dvt_vit_30e.py', '../_base_/default_runtime.py'
]
model = dict(
    cls_head=dict(
        _delete_=True,
        type='VerbNounHead',
        head=dict(
            type='TimeSformerHead',
            in_channels=768,
            label_smooth_eps=0.1)),
    data_preprocessor=dict(blending=dict(num_classes=(97, 300))))
default_hooks = dict(check_load=dict(
    allow_missing=['cls_head.'], allow_unexpected=['cls_head.']))
load_from = 'checkpoints/dvt_timesformer_stms_k400.pth'
