# TimeSformer with STTM: half of each frame's tokens
# merge into the others before layer 6, half of the clip's before layer 9.
_base_ = './timesformer_dense_k400.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='TokenMerging', before=6, scope='frame'),
        dict(type='TokenMerging', before=9, scope='clip')
    ]))
default_hooks = dict(
    check_load=dict(allow_missing=['backbone.reducers.', 'cls_head.']))
