# dvt_motion.py with differences of frames as the cue.
_base_ = './dvt_motion.py'
model = dict(backbone=dict(cue='rgb_difference'))
