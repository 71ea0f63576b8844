# Something-Something V2 for DVT: 16 frames, one from each sixteenth of the video,
# 224x224, with displacement fields of 4 pixels a cell. MViT's recipe as for
# Kinetics-400, but nothing is flipped, since left and right are part of some classes.
# Test: 5 clips x 1 crop.
# The videos come as VP9, which has no motion vectors: they are re-encoded first.
data_root = 'data/sthv2'
video_root = f'{data_root}/videos_h264'
ann_file_train = f'{video_root}/sthv2_train_list_videos.txt'
ann_file_val = f'{video_root}/sthv2_val_list_videos.txt'
num_classes = 174
hint = ('re-encode the videos of MMAction2\'s Something-Something V2 with '
        'python tools/data/transcode_h264.py SRC DST --list LIST LIST')

train_pipeline = [
    dict(type='MotionInit'),
    dict(type='UniformSample', clip_len=16, num_clips=1),
    dict(type='MotionDecode'),
    dict(type='FollowMotion', transforms=[
        dict(type='Resize', scale=(-1, 256)),
        dict(type='ColorRandAugment', magnitude=7, num_layers=4),
        dict(type='RandomResizedCrop'),
        dict(type='Resize', scale=(224, 224), keep_ratio=False),
        dict(type='RandomErasing', erase_prob=0.25, mode='rand')
    ]),
    dict(type='FormatMotion', stride=4),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs', collect_keys=('imgs', 'motion'))
]
val_pipeline = [
    dict(type='MotionInit'),
    dict(type='UniformSample', clip_len=16, num_clips=1,
         test_mode=True),
    dict(type='MotionDecode'),
    dict(type='FollowMotion', transforms=[
        dict(type='Resize', scale=(-1, 256)),
        dict(type='CenterCrop', crop_size=224)
    ]),
    dict(type='FormatMotion', stride=4),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs', collect_keys=('imgs', 'motion'))
]
test_pipeline = [
    dict(type='MotionInit'),
    dict(type='UniformSample', clip_len=16, num_clips=5,
         test_mode=True),
    dict(type='MotionDecode'),
    dict(type='FollowMotion', transforms=[
        dict(type='Resize', scale=(-1, 224)),
        dict(type='CenterCrop', crop_size=224)
    ]),
    dict(type='FormatMotion', stride=4),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs', collect_keys=('imgs', 'motion'))
]

train_dataloader = dict(
    batch_size=8,  # videos: 16 clips with two augmentations each
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='repeat_pseudo_collate'),
    dataset=dict(
        type='MotionVideoDataset',
        num_repeats=2,
        ann_file=ann_file_train,
        data_prefix=dict(video=video_root),
        num_classes=num_classes,
        hint=hint,
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=8,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='MotionVideoDataset',
        ann_file=ann_file_val,
        data_prefix=dict(video=video_root),
        num_classes=num_classes,
        hint=hint,
        pipeline=val_pipeline,
        test_mode=True))
test_dataloader = dict(
    batch_size=1,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='MotionVideoDataset',
        ann_file=ann_file_val,
        data_prefix=dict(video=video_root),
        num_classes=num_classes,
        hint=hint,
        pipeline=test_pipeline,
        test_mode=True))
val_evaluator = dict(type='AccMetric')
test_evaluator = val_evaluator
