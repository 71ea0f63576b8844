# Table 1: the mean of the frames in between as the cue.
_base_ = './mvit_st_ssv2.py'
model = dict(backbone=dict(cue='rgb_average'))
load_from = 'checkpoints/dvt_mvit_st_rgb_average_k400.pth'
