# EVAD, ViT-B, AVA-Kinetics v1.0. The paper has no recipe for it: that of AVA.
_base_ = [
    '../_base_/models/evad_vit_base.py', '../_base_/datasets/ava_kinetics.py',
    '../_base_/schedules/evad.py', '../_base_/default_runtime.py'
]
# what load_from, an encoder, lacks
default_hooks = dict(
    check_load=dict(allow_missing=['neck.', 'localizer.', 'action_head.']))
