# EPIC-KITCHENS-100 for DVT: a clip for each action, 16 frames of every 4th, 224x224,
# with displacement fields of 4 pixels a cell. MViT's recipe as for Kinetics-400. Some
# actions last minutes, so clips keep the paper's stride of 4 rather than span them.
# Test: 5 clips x 1 crop; accuracy of action, verb and noun.
data_root = 'data/epic100'
video_root = f'{data_root}/clips'
ann_file_train = f'{data_root}/annotations/EPIC_100_train.csv'
ann_file_val = f'{data_root}/annotations/EPIC_100_validation.csv'
num_verbs = 97
num_nouns = 300
hint = ('get the annotations of github.com/epic-kitchens/epic-kitchens-100-annotations '
        'and cut clips with python tools/data/cut_epic_clips.py VIDEOS CLIPS CSV CSV')

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
        type='EpicKitchensDataset',
        num_repeats=2,
        ann_file=ann_file_train,
        data_prefix=dict(video=video_root),
        num_verbs=num_verbs,
        num_nouns=num_nouns,
        hint=hint,
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=8,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='EpicKitchensDataset',
        ann_file=ann_file_val,
        data_prefix=dict(video=video_root),
        num_verbs=num_verbs,
        num_nouns=num_nouns,
        hint=hint,
        pipeline=val_pipeline,
        test_mode=True))
test_dataloader = dict(
    batch_size=1,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='EpicKitchensDataset',
        ann_file=ann_file_val,
        data_prefix=dict(video=video_root),
        num_verbs=num_verbs,
        num_nouns=num_nouns,
        hint=hint,
        pipeline=test_pipeline,
        test_mode=True))
val_evaluator = dict(type='EpicKitchensMetric')
test_evaluator = val_evaluator
