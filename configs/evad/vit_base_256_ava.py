# EVAD, ViT-B, AVA v2.2, short side 256, keep rate 0.7.
_base_ = [
    '../_base_/models/evad_vit_base.py', '../_base_/datasets/ava_256.py',
    '../_base_/schedules/evad.py', '../_base_/default_runtime.py'
]
# what load_from, an encoder, lacks
default_hooks = dict(
    check_load=dict(allow_missing=['neck.', 'localizer.', 'action_head.']))
