# Table 1: the mean of the frames in between as the cue.
_base_ = './mvit_st_k400.py'
model = dict(backbone=dict(cue='rgb_average'))
