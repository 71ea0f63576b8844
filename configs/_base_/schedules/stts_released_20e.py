# STTS as the released code trains it, beside stts_finetune_20e.py (the paper's text):
# no warm-up of selectors, the host held at 0 for 3 epochs, a cosine that ends at 1e-6.
_base_ = './stts_finetune_20e.py'
first = dict(learns_first=True)

optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={
            'score_net': first,
            'score_net.norm': first,
            'score_net.embed.bias': first,
            'score_net.head.bias': first,
            'score_net.head.0.bias': first,
            'score_net.head.2.bias': first,
            'score_net.head.4.bias': first,
        }))
param_scheduler = [
    dict(type='HeldCosineLR', hold=3, eta_min=1e-6, by_epoch=True, begin=0, end=20,
         convert_to_iter_based=True)
]
