# T0.3^4 with Gumbel-softmax in place of the perturbed top-k (Table 1).
_base_ = './mvit_k400.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='TemporalSelection', before=4, keep=0.3, strategy='gumbel')
    ]))
