# vit_merged.py with meta tokens that are drawn at random.
_base_ = './vit_tuned.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='TokenMerging', before=2, scope='frame', init='identity',
             strategy='random'),
        dict(type='TokenMerging', before=3, scope='clip', init='identity',
             strategy='random')
    ]))
