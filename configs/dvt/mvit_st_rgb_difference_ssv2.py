# Table 1: differences of frames as the cue.
_base_ = './mvit_st_ssv2.py'
model = dict(backbone=dict(cue='rgb_difference'))
load_from = 'checkpoints/dvt_mvit_st_rgb_difference_k400.pth'
