# TimeSformer, all tokens kept. Starts from the image model (ImageNet-1K) that
#   tools/convert_checkpoint.py SRC DST --source timm_vit --config THIS_FILE
# makes of a timm checkpoint; the classifier is new.
_base_ = [
    '../_base_/models/timesformer_base.py', '../_base_/datasets/kinetics400_8x32.py',
    '../_base_/schedules/sttm_30e.py', '../_base_/default_runtime.py'
]
default_hooks = dict(check_load=dict(allow_missing=['cls_head.']))
load_from = 'checkpoints/timesformer_in1k.pth'
