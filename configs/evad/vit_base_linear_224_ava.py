# A linear head in place of the decoder, keep rate 0.7 (Table 1a).
_base_ = './vit_base_ext0_224_ava.py'
model = dict(
    action_head=dict(
        _delete_=True,
        type='LinearActionHead',
        in_channels=768,
        num_classes=80,
        roi_extension=(0.0, 0.0)))
