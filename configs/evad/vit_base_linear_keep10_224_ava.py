# A linear head, without pruning: the baseline (Table 1a).
_base_ = './vit_base_keep10_224_ava.py'
model = dict(
    action_head=dict(
        _delete_=True,
        type='LinearActionHead',
        in_channels=768,
        num_classes=80,
        roi_extension=(0.0, 0.0)))
