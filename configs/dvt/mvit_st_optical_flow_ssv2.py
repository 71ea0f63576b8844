# Table 1: TV-L1 optical flow as the cue, computed between the sampled frames: slow.
_base_ = './mvit_st_ssv2.py'
train_pipeline, val_pipeline, test_pipeline = (
    [dict(step, fields='optical_flow', flow='tvl1') if step.type == 'MotionDecode'
     else step for step in steps]
    for steps in (_base_.train_pipeline, _base_.val_pipeline, _base_.test_pipeline))
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
load_from = 'checkpoints/dvt_mvit_st_optical_flow_k400.pth'
