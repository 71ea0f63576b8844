# As the release computes, for its weights: tokens return to wrong places, in which the
# weights were trained (docs/evad.md).
_base_ = './vit_base_ava.py'
model = dict(action_head=dict(remap='released'))
