# A small MViT with D-ST-A for 16x64x64 clips: 8 token frames of 8x8 places, widths as
# in mvit_demo.py. Patches are of one frame, so that none sees a shape move: what tells
# motions apart is the cue. Fields have a cell for each patch.
model = dict(
    type='MMRecognizer3D',
    backbone=dict(
        type='DVTMViT',
        arch=dict(embed_dims=32, num_layers=4, num_heads=1, downscale_indices=[2]),
        spatial_size=64,
        temporal_size=16,
        patch_cfg=dict(kernel_size=(1, 15, 15), stride=(2, 8, 8), padding=(0, 7, 7)),
        separable_pos_embed=True,
        attention='st',
        motion_stride=8,
        motion_unit=2.0,  # about what a shape moves between sampled frames
        init_cfg=[dict(type='Normal', layer='Conv3d', std=0.05)]),
    cls_head=dict(
        type='MViTHead',
        in_channels=64,
        num_classes=8,
        with_cls_token=False,
        dropout_ratio=0.0,
        init_scale=7.0,  # of weights of about 0.07: 0.5, as in vit_demo.py
        average_clips='prob'),
    # Where a query looks is read from the positions that it meets there. With the mean
    # subtracted, plain ground is nearly 0 and LayerNorm brings them out.
    data_preprocessor=dict(
        type='MotionDataPreprocessor',
        mean=[114.75, 114.75, 114.75],
        std=[57.375, 57.375, 57.375]))
