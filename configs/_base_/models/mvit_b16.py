# MViT-B16 (MViTv1, arXiv 2104.11227): 36.61 M parameters, 70.8 GFLOPs at 16x224x224.
model = dict(
    type='Recognizer3D',
    backbone=dict(
        type='ReducedMViT',
        arch='small',  # its widths and depths are those of MViTv1-B
        dim_mul_in_attention=False,
        rel_pos_embed=False,
        residual_pooling=False,
        pool_query='downscale',
        pool_norm_cfg=dict(type='LN', eps=1e-5),
        separable_pos_embed=True,
        drop_path_rate=0.2),
    cls_head=dict(
        type='MViTHead',
        in_channels=768,
        num_classes=400,
        dropout_ratio=0.5,
        label_smooth_eps=0.1,
        average_clips='prob'),
    data_preprocessor=dict(
        type='ActionDataPreprocessor',
        mean=[114.75, 114.75, 114.75],
        std=[57.375, 57.375, 57.375],
        format_shape='NCTHW',
        blending=dict(
            type='RandomBatchAugment',
            augments=[
                dict(type='MixupBlending', alpha=0.8, num_classes=400),
                dict(type='CutmixBlending', alpha=1, num_classes=400)
            ])))
