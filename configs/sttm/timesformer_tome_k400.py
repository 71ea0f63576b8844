# TimeSformer merging by ToMe's bipartite matching: no parameters, so that
#   tools/test.py configs/sttm/timesformer_tome_k400.py CHECKPOINT
# reduces a trained dense model as it is.
_base_ = './timesformer_k400.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='TokenMerging', before=6, scope='frame', strategy='bipartite'),
        dict(type='TokenMerging', before=9, scope='clip', strategy='bipartite')
    ]))
