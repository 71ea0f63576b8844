# VideoSwin-B-T0.6^0 as the released checkpoints were trained: the 10 frames are padded
# to 16 in every window attention.
_base_ = './swin_base_t06_k400.py'
model = dict(backbone=dict(window_mode='padded'))
