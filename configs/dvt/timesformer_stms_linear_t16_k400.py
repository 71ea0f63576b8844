# Every frame a token frame, linear fusion: twice the tokens.
_base_ = './timesformer_stms_k400.py'
model = dict(backbone=dict(tubelet_size=1, fusion='linear'))
