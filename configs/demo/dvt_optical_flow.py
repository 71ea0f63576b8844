# dvt_motion.py with optical flow (DIS, which is fast) as the cue.
_base_ = './dvt_motion.py'
train_pipeline, test_pipeline = (
    [dict(step, fields='optical_flow', flow='dis') if step.type == 'MotionDecode'
     else step for step in steps]
    for steps in (_base_.train_pipeline, _base_.test_pipeline))
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
