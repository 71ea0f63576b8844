# TimeSformer on Something-Something V2, all tokens kept. Starts from
# the image model, as timesformer_dense_k400.py does.
_base_ = [
    '../_base_/models/timesformer_base.py', '../_base_/datasets/sthv2_8.py',
    '../_base_/schedules/sttm_30e.py', '../_base_/default_runtime.py'
]
model = dict(cls_head=dict(num_classes=174))
default_hooks = dict(check_load=dict(allow_missing=['cls_head.']))
load_from = 'checkpoints/timesformer_in1k.pth'
