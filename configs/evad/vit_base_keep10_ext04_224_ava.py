# Without pruning, boxes extended by (0.4, 0.2) (Table 1f).
_base_ = './vit_base_keep10_224_ava.py'
model = dict(action_head=dict(roi_extension=(0.4, 0.2)))
