# AVA v2.2 as mmaction2's data preparation lays it out (docs/evad_data.md), for EVAD:
# 16 frames of every 4th, the keyframe is sampled frame 8, without jitter; short side
# 288, long side at most 1333; no crop, flip or change of colour; no proposals.
#
# A sample: inputs uint8 (3, T, H, W), RGB, neither normalised nor padded;
# gt_instances.bboxes float32 (N, 4), x1 y1 x2 y2 in pixels of the inputs;
# gt_instances.labels float32 (N, 81), column k for label k, column 0 unused;
# img_shape (H, W), original_shape, scale_factor (w, h), img_key, video_id, timestamp.
# A prediction: pred_instances.bboxes (M, 4) as shares of img_shape, from 0 to 1, and
# scores (M, 81), column 0 unused.
data_root = 'data/ava'
anno_root = f'{data_root}/annotations'
num_classes = 81  # labels count from 1
short_side = 288
# 60 of the 80 classes are evaluated: all are trained, so the datasets get no map
label_file = f'{anno_root}/ava_action_list_v2.2_for_activitynet_2019.pbtxt'

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

train_dataloader = dict(
    batch_size=2,
    num_workers=8,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CheckedAVADataset',
        ann_file=f'{anno_root}/ava_train_v2.2.csv',
        exclude_file=f'{anno_root}/ava_train_excluded_timestamps_v2.2.csv',
        data_prefix=dict(img=f'{data_root}/rawframes'),
        num_classes=num_classes,
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CheckedAVADataset',
        ann_file=f'{anno_root}/ava_val_v2.2.csv',
        exclude_file=f'{anno_root}/ava_val_excluded_timestamps_v2.2.csv',
        data_prefix=dict(img=f'{data_root}/rawframes'),
        num_classes=num_classes,
        pipeline=test_pipeline,
        test_mode=True))
test_dataloader = val_dataloader
val_evaluator = dict(
    type='CheckedAVAMetric',
    ann_file=f'{anno_root}/ava_val_v2.2.csv',
    exclude_file=f'{anno_root}/ava_val_excluded_timestamps_v2.2.csv',
    label_file=label_file,
    num_classes=num_classes)
test_evaluator = val_evaluator
