# Table 1: frames less their prediction by motion as the cue.
_base_ = './mvit_st_ssv2.py'
model = dict(backbone=dict(cue='rgb_residual'))
