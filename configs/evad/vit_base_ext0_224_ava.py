# Boxes are not extended (Table 1f). Tables 1a to 1e compare with this one.
_base_ = './vit_base_224_ava.py'
model = dict(action_head=dict(roi_extension=(0.0, 0.0)))
