# vit_merged.py without positions fused in (STTM, Table 1).
_base_ = './vit_tuned.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='TokenMerging', before=2, scope='frame', init='identity',
             motion=False),
        dict(type='TokenMerging', before=3, scope='clip', init='identity',
             motion=False)
    ]))
