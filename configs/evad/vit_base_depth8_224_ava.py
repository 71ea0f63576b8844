# A decoder of 8 blocks (Table 1e).
_base_ = './vit_base_ext0_224_ava.py'
model = dict(action_head=dict(depth=8))
