# ViT-B, TimeSformer's, with both deformable attentions and the MLP fusion (DVT):
# tubelets of 2 frames, 180.2 M parameters, 286.0 GFLOPs at 16x224x224. Takes frames
# and displacement fields.
model = dict(
    type='MMRecognizer3D',
    backbone=dict(
        type='DVTTimeSformer',
        num_frames=16,
        img_size=224,
        patch_size=16,
        embed_dims=768,
        num_heads=12,
        tubelet_size=2,
        attention='st+ms',
        fusion='mlp',
        points=8,
        sub_clips=4,
        cue='motion',
        motion_stride=4),
    cls_head=dict(
        type='TimeSformerHead',
        num_classes=400,
        in_channels=768,
        label_smooth_eps=0.1,
        average_clips='prob'),
    data_preprocessor=dict(
        type='MotionDataPreprocessor',
        mean=[127.5, 127.5, 127.5],
        std=[127.5, 127.5, 127.5],
        blending=dict(type='MotionBlending', mixup_alpha=0.8, cutmix_alpha=1.0,
                      num_classes=400)))
