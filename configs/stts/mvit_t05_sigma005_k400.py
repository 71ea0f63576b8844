# T0.5^0 with sigma 0.05 (Table 8); 0.1 is mvit_t05_k400.py.
_base_ = './mvit_k400.py'
model = dict(
    backbone=dict(reducers=[
        dict(type='TemporalSelection', before=0, keep=0.5,
             strategy_cfg=dict(sigma=0.05))
    ]))
