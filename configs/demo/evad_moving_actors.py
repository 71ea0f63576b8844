# EVAD on the moving actors: keep 0.7 at a third and two thirds of the depth (the paper:
# at quarters); fine-tunes the dense model, as the paper's fine-tunes VideoMAE. A clip
# of 4 token frames is 192 tokens, of which 48 are the keyframe's; of the 144 others two
# prunings leave 47, a third (the paper's three leave a quarter of 1372).
_base_ = './evad_tuned.py'
keep = 0.7
model = dict(
    backbone=dict(reducers=[
        dict(type='KeyframePruning', within=block, keep=keep) for block in (2, 4)
    ]))
