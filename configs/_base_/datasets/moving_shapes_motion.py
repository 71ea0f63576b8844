# moving_shapes.py with the motion of the compressed stream, a cell for 8x8 pixels.
_base_ = './moving_shapes.py'
pipeline = [
    dict(type='MotionInit'),
    dict(type='SampleFrames', clip_len=16, frame_interval=2, num_clips=1),
    dict(type='MotionDecode', spacing=8),
    dict(type='FormatMotion', stride=8),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs', collect_keys=('imgs', 'motion'))
]
train_pipeline = pipeline
test_pipeline = [
    dict(step, test_mode=True) if step['type'] == 'SampleFrames' else step
    for step in pipeline
]
train_dataloader = dict(
    dataset=dict(type='MotionVideoDataset', pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(type='MotionVideoDataset', pipeline=test_pipeline))
test_dataloader = val_dataloader
