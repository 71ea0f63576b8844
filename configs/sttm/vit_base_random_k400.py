# ViT-B with STTM, but meta tokens drawn at random.
_base_ = './vit_base_k400.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='TokenMerging', before=6, scope='frame', strategy='random'),
        dict(type='TokenMerging', before=9, scope='clip', strategy='random')
    ]))
