# Generated actors, 8 labels, 8 frames of 96x128; see
# mmaction_tokenreduce/datasets/moving_actors/__init__.py. What a sample holds is at the
# top of ava.py. The keyframe is sampled frame 4; with tubelets of 2 the token frame
# that holds it shows no motion. No flip: it would swap the labels 2 and 3.
data_root = 'data/moving_actors'
hint = f'make it with python tools/data/make_moving_actors.py {data_root}'
num_classes = 9  # labels count from 1, column 0 is unused
label_file = f'{data_root}/action_list.pbtxt'

train_pipeline = [
    dict(type='SampleKeyframeClip', clip_len=8, frame_interval=1),
    dict(type='RawFrameDecode'),
    dict(type='FormatShape', input_format='NCTHW', collapse=True),
    dict(type='PackActionInputs', meta_keys=(
        'img_shape', 'original_shape', 'img_key', 'video_id', 'timestamp'))
]
test_pipeline = train_pipeline
_dataset = dict(
    type='CheckedAVADataset',
    label_file=label_file,
    num_classes=num_classes,
    data_prefix=dict(img=f'{data_root}/frames'),
    fps=4,
    timestamp_start=0,
    timestamp_end=8,
    hint=hint)
train_dataloader = dict(
    batch_size=16,
    num_workers=0,  # exact resume
    persistent_workers=False,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        **_dataset,
        ann_file=f'{data_root}/train.csv',
        exclude_file=f'{data_root}/train_excluded.csv',
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=16,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **_dataset,
        ann_file=f'{data_root}/val.csv',
        exclude_file=f'{data_root}/val_excluded.csv',
        pipeline=test_pipeline,
        test_mode=True))
test_dataloader = val_dataloader
val_evaluator = dict(
    type='CheckedAVAMetric',
    ann_file=f'{data_root}/val.csv',
    exclude_file=f'{data_root}/val_excluded.csv',
    label_file=label_file,
    num_classes=num_classes)
test_evaluator = val_evaluator
del _dataset
