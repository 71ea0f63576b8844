# STTM: half of each frame's tokens merge before layer 2 of 4, half of the clip's before
# layer 3, places like the paper's 6 and 9 of 12; fine-tunes the dense model. Merges
# start as plain averages: two epochs are few to learn them from random weights.
_base_ = './vit_tuned.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='TokenMerging', before=2, scope='frame', init='identity'),
        dict(type='TokenMerging', before=3, scope='clip', init='identity')
    ]))
