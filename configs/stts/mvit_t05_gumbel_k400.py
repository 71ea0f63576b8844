# T0.5^0 with Gumbel-softmax in place of the perturbed top-k (Table 1).
_base_ = './mvit_k400.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='TemporalSelection', before=0, keep=0.5, strategy='gumbel')
    ]))
