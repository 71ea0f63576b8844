# TimeSformer, divided space-time attention (arXiv 2102.05095): 121.57 M parameters,
# 196.0 GFLOPs at 8x224x224.
model = dict(
    type='Recognizer3D',
    backbone=dict(
        type='ReducedTimeSformer',
        num_frames=8,
        img_size=224,
        patch_size=16,
        embed_dims=768,
        num_heads=12,
        attention_type='divided_space_time'),
    cls_head=dict(
        type='TimeSformerHead',
        num_classes=400,
        in_channels=768,
        average_clips='score'),  # STTM, Sec. 4.2: logits are averaged
    data_preprocessor=dict(
        type='ActionDataPreprocessor',
        mean=[127.5, 127.5, 127.5],
        std=[127.5, 127.5, 127.5],
        format_shape='NCTHW'))
