# dvt_motion.py with frames less their prediction by motion as the cue.
_base_ = './dvt_motion.py'
model = dict(backbone=dict(cue='rgb_residual'))
