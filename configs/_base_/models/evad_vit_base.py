# EVAD: VideoMAE's ViT-B of 16 frames prunes tokens around the keyframe within blocks 3,
# 6 and 9; Sparse R-CNN on the keyframe; a decoder of 6 blocks. 185.36 M parameters,
# 134.2 GFLOPs at 16x224x224 (keep 0.7).
model = dict(
    type='EVAD',
    backbone=dict(
        type='ReducedViT',
        img_size=224,
        patch_size=16,
        embed_dims=768,
        depth=12,
        num_heads=12,
        mlp_ratio=4,
        qkv_bias=True,
        num_frames=16,
        tubelet_size=2,
        norm_cfg=dict(type='LN', eps=1e-6),
        drop_path_rate=0.1,
        out_indices=(2, 5, 8, 11),
        reducers=[
            dict(type='KeyframePruning', within=block, keep=0.7)
            for block in (3, 6, 9)
        ]),
    neck=[
        dict(type='KeyframePyramid', scales=(4, 2, 1, 0.5)),
        dict(
            type='mmdet.FPN', in_channels=[768] * 4, out_channels=256, num_outs=4)
    ],
    localizer=dict(type='SparseLocalizer', num_proposals=100, num_stages=6),
    action_head=dict(
        type='ContextRefinementHead',
        in_channels=768,
        channels=384,
        depth=6,
        num_heads=6,
        num_classes=80,
        grid=(8, 14, 14),
        roi_extension=(0.4, 0.2)),
    data_preprocessor=dict(
        type='DetectionDataPreprocessor',
        mean=[114.75, 114.75, 114.75],
        std=[57.375, 57.375, 57.375]))
