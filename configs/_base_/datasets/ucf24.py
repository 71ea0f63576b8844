# UCF101-24 (24 classes), split 1. Test: all frames, also those without an actor,
# for EVAD; preparation: docs/evad_data.md. A sample is as at the top of ava.py; class k
# of the file is column k + 1, timestamp is the frame's number from 1.
data_root = 'data/ucf101_24'
ann_file = f'{data_root}/UCF101v2-GT.json'
hint = ('get UCF101v2-GT.pkl and the frames as docs/evad_data.md says, and convert the '
        'former with python tools/data/convert_tube_pickle.py')
num_classes = 25
short_side = 288

train_pipeline = [
    dict(type='SampleKeyframeClip', clip_len=16, frame_interval=4),
    dict(type='RawFrameDecode'),
    dict(type='Resize', scale=(1333, short_side)),
    dict(type='FormatShape', input_format='NCTHW', collapse=True),
    dict(type='PackActionInputs', meta_keys=(
        'img_shape', 'original_shape', 'scale_factor', 'img_key', 'video_id',
        'timestamp'))
]
test_pipeline = train_pipeline
_dataset = dict(
    type='ActionTubeDataset',
    ann_file=ann_file,
    split=1,
    num_classes=num_classes,
    data_prefix=dict(img=f'{data_root}/rgb-images'),
    filename_tmpl='{:05}.jpg',
    hint=hint)
train_dataloader = dict(
    batch_size=2,
    num_workers=8,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(**_dataset, pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **_dataset,
        frames='all',
        pipeline=test_pipeline,
        test_mode=True))
test_dataloader = val_dataloader
val_evaluator = [
    dict(type=kind, ann_file=ann_file, split=1, num_classes=num_classes)
    for kind in ('FrameMAP', 'VideoMAP')
]
test_evaluator = val_evaluator
del _dataset
