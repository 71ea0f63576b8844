# Table 1: frames less their prediction by motion as the cue.
_base_ = './mvit_st_ssv2.py'
model = dict(backbone=dict(cue='rgb_residual'))
load_from = 'checkpoints/dvt_mvit_st_rgb_residual_k400.pth'
