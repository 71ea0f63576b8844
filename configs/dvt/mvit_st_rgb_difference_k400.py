# Table 1: differences of frames as the cue.
_base_ = './mvit_st_k400.py'
model = dict(backbone=dict(cue='rgb_difference'))
