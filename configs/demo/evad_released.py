# evad_moving_actors.py with kept tokens scrambled as in the release.
_base_ = './evad_moving_actors.py'
model = dict(action_head=dict(remap='released'))
