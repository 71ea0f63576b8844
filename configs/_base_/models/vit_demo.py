# A small VideoMAE ViT for 16x64x64 clips: 4 token frames of 8x8 places, 0.10 GFLOPs.
# Patches of 4 frames, so that each sees a shape move.
model = dict(
    type='Recognizer3D',
    backbone=dict(
        type='ReducedViT',
        img_size=64,
        patch_size=8,
        num_frames=16,
        tubelet_size=4,
        embed_dims=64,
        depth=4,
        num_heads=4,
        use_learnable_pos_emb=True,
        # Linear layers start as PyTorch makes them; VideoMAE's are far smaller (0.02)
        # and meant for long schedules.
        init_cfg=[dict(type='Normal', layer='Conv3d', std=0.036)]),
    cls_head=dict(
        type='TimeSformerHead',
        in_channels=64,
        num_classes=8,
        init_std=0.5,
        average_clips='prob'),
    # No mean is subtracted: LayerNorm would blow plain ground, which is then nearly 0,
    # up to the size of a shape, with a random sign for each clip.
    data_preprocessor=dict(
        type='ActionDataPreprocessor',
        mean=[0.0, 0.0, 0.0],
        std=[57.375, 57.375, 57.375],
        format_shape='NCTHW'))
