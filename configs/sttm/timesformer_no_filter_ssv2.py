# Table 2: every meta token that is picked counts, however little the class token
# attends to it.
_base_ = './timesformer_15e_ssv2.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='TokenMerging', before=6, scope='frame', filter=False),
        dict(type='TokenMerging', before=9, scope='clip', filter=False)
    ]))
