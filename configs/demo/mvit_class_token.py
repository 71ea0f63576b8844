# The dense MViT with a class token, from which it classifies: what `cls_attention`
# needs. Starts from the one without. For tools/compare_off_the_shelf.py.
_base_ = './mvit_dense.py'
model = dict(
    backbone=dict(with_cls_token=True, output_cls_token=True),
    cls_head=dict(with_cls_token=True))
default_hooks = dict(
    check_load=dict(allow_missing=['backbone.pos_embed_class']))
