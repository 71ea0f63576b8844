# EVAD, ViT-L, AVA v2.2, short side 288, keep rate 0.7. Batch 8.
_base_ = [
    '../_base_/models/evad_vit_large.py', '../_base_/datasets/ava.py',
    '../_base_/schedules/evad.py', '../_base_/default_runtime.py'
]
train_dataloader = dict(batch_size=1)
optim_wrapper = dict(optimizer=dict(lr=1e-5))
auto_scale_lr = dict(base_batch_size=8)
# what load_from, an encoder, lacks
default_hooks = dict(
    check_load=dict(allow_missing=['neck.', 'localizer.', 'action_head.']))
