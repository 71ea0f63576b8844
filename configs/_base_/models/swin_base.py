# VideoSwin-B (arXiv 2106.13230): 87.64 M parameters without the head, 281.9 GFLOPs at
# 32x224x224, which are 16 token frames.
model = dict(
    type='Recognizer3D',
    backbone=dict(
        type='ReducedSwin3D',
        arch='base',
        patch_size=(2, 4, 4),
        window_size=(8, 7, 7),
        drop_path_rate=0.3,
        pretrained2d=False),
    cls_head=dict(
        type='I3DHead',
        in_channels=1024,
        num_classes=400,
        spatial_type='avg',
        dropout_ratio=0.5,
        average_clips='prob'),
    data_preprocessor=dict(
        type='ActionDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        format_shape='NCTHW'))
