# A small MViT for 16x64x64 clips: 8 token frames of 8x8 places, 0.09 GFLOPs. Patches
# are wide (15x15 pixels, 3 frames), so that each sees a shape move; classified from
# the mean of all tokens.
model = dict(
    type='Recognizer3D',
    backbone=dict(
        type='ReducedMViT',
        arch=dict(embed_dims=32, num_layers=4, num_heads=1, downscale_indices=[2]),
        spatial_size=64,
        temporal_size=16,
        patch_cfg=dict(kernel_size=(3, 15, 15), stride=(2, 8, 8), padding=(1, 7, 7)),
        adaptive_kv_stride=(1, 2, 2),
        dim_mul_in_attention=False,
        rel_pos_embed=False,
        residual_pooling=False,
        pool_query='downscale',
        separable_pos_embed=True,
        with_cls_token=False,
        output_cls_token=False,
        # Patch embeddings well above the position embeddings (0.02): what is plain
        # ground then looks alike in all places after the first LayerNorm.
        init_cfg=[dict(type='Normal', layer='Conv3d', std=0.05)]),
    cls_head=dict(
        type='MViTHead',
        in_channels=64,
        num_classes=8,
        dropout_ratio=0.0,
        with_cls_token=False,
        average_clips='prob'),
    data_preprocessor=dict(
        type='ActionDataPreprocessor',
        mean=[114.75, 114.75, 114.75],
        std=[57.375, 57.375, 57.375],
        format_shape='NCTHW'))
