# MViT-B16 with deformable attention (DVT), without a class token: 31.80 M parameters
# and 46.4 GFLOPs at 16x224x224 with D-ST-A. Takes frames and displacement fields.
model = dict(
    type='MMRecognizer3D',
    backbone=dict(
        type='DVTMViT',
        arch='small',  # its widths and depths are those of MViTv1-B
        attention='st',
        points=8,
        sub_clips=4,
        cue='motion',
        motion_stride=4,
        pool_norm_cfg=dict(type='LN', eps=1e-5),
        separable_pos_embed=True,
        drop_path_rate=0.2),
    cls_head=dict(
        type='MViTHead',
        in_channels=768,
        num_classes=400,
        with_cls_token=False,  # the mean of all tokens
        dropout_ratio=0.5,
        label_smooth_eps=0.1,
        average_clips='prob'),
    data_preprocessor=dict(
        type='MotionDataPreprocessor',
        mean=[114.75, 114.75, 114.75],
        std=[57.375, 57.375, 57.375],
        blending=dict(type='MotionBlending', mixup_alpha=0.8, cutmix_alpha=1.0,
                      num_classes=400)))
