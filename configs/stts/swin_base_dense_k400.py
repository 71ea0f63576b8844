# VideoSwin-B, the host of STTS, keeping every token: 281.9 GFLOPs. Starts from the
# image model (ImageNet-21K), whose file is the one that its authors released.
_base_ = [
    '../_base_/models/swin_base.py', '../_base_/datasets/kinetics400_32x2.py',
    '../_base_/schedules/swin_30e.py', '../_base_/default_runtime.py'
]
model = dict(
    backbone=dict(
        pretrained2d=True,
        pretrained='checkpoints/swin_base_patch4_window7_224_22k.pth'))
