# Kinetics-400 for DVT: 16 frames of every 4th, 224x224, with displacement fields of 4
# pixels a cell. MViT's recipe; RandAugment changes colours alone, since fields would
# have to follow all else. Test: 5 clips x 1 crop.
# The videos are mmaction2's, re-encoded; as they come they serve too, but streams with
# several references give coarser motion.
data_root = 'data/kinetics400'
video_root_train = f'{data_root}/videos_train_h264'
video_root_val = f'{data_root}/videos_val_h264'
ann_file_train = f'{video_root_train}/kinetics400_train_list_videos.txt'
ann_file_val = f'{video_root_val}/kinetics400_val_list_videos.txt'
num_classes = 400
hint = ('re-encode videos_train and videos_val of MMAction2\'s Kinetics-400, each with '
        'python tools/data/transcode_h264.py SRC DST --list LIST')

train_pipeline = [
    dict(type='MotionInit'),
    dict(type='SampleFrames', clip_len=16, frame_interval=4, num_clips=1),
    dict(type='MotionDecode'),
    dict(type='FollowMotion', transforms=[
        dict(type='Resize', scale=(-1, 256)),
        dict(type='ColorRandAugment', magnitude=7, num_layers=4),
        dict(type='RandomResizedCrop'),
        dict(type='Resize', scale=(224, 224), keep_ratio=False),
        dict(type='Flip', flip_ratio=0.5),
        dict(type='RandomErasing', erase_prob=0.25, mode='rand')
    ]),
    dict(type='FormatMotion', stride=4),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs', collect_keys=('imgs', 'motion'))
]
val_pipeline = [
    dict(type='MotionInit'),
    dict(type='SampleFrames', clip_len=16, frame_interval=4, num_clips=1,
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
    dict(type='SampleFrames', clip_len=16, frame_interval=4, num_clips=5,
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
        data_prefix=dict(video=video_root_train),
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
        data_prefix=dict(video=video_root_val),
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
        data_prefix=dict(video=video_root_val),
        num_classes=num_classes,
        hint=hint,
        pipeline=test_pipeline,
        test_mode=True))
val_evaluator = dict(type='AccMetric')
test_evaluator = val_evaluator
