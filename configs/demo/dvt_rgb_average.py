# dvt_motion.py with the mean of the frames in between as the cue.
_base_ = './dvt_motion.py'
model = dict(backbone=dict(cue='rgb_average'))
