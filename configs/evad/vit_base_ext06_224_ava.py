# Boxes are extended by (0.6, 0.3) of width and height (Table 1f).
_base_ = './vit_base_224_ava.py'
model = dict(action_head=dict(roi_extension=(0.6, 0.3)))
